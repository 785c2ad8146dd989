"""All methods that can compress one matrix, by name, to compare them: ours and, built from their papers, what others do.

Each takes a weight, its Hessian and the bits per weight it may store, everything counted as far as its format allows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from leanto_edge.artifact.layout import BITS, MatrixSpec
from leanto_edge.compress.baselines import caldera, uniform
from leanto_edge.compress.baselines.approximation import Approximation
from leanto_edge.compress.incoherence import rotation_seed
from leanto_edge.compress.matrix import compress_matrix, decompress_matrix, predicted_errors
from leanto_edge.compress.rounding import CODE_ERROR

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]

SWEEPS = 2
RANKS = {4: (8, 16, 24, 32, 64), 8: (2, 3, 4, 5, 6, 7, 8, 12, 16, 32), 16: (1, 2, 4)}  # that are tried, by factor bits
_CALDERA_FACTOR_BITS = 4


class Method(Protocol):
    """Compresses w (m, n) under h (n, n) to at most about `bits` per weight. ValueError where it cannot."""

    def __call__(self, w: Floats, h: Doubles, bits: float, *, seed: int = 0) -> Approximation:
        """The weight to compute with, and what it takes to store it."""
        ...


def leanto(w: Floats, h: Doubles, bits: float, *, seed: int = 0) -> Approximation:
    """The stored form with the lowest predicted error in `bits` per weight, scales and tables on top."""
    rows, cols = w.shape
    extra = stored_bits(plain_spec(rows, cols, 2, seed)) - 2
    return by_spec(w, h, best_spec(w, h, bits + extra, seed))


def by_spec(w: Floats, h: Doubles, spec: MatrixSpec, sweeps: int = SWEEPS) -> Approximation:
    """Our recipe in one given form; bits as the artifact stores them."""
    with ThreadPoolExecutor(1) as executor:
        found = compress_matrix(w, h, spec, sweeps=sweeps, executor=executor)
    return Approximation(decompress_matrix(spec, found.tensors), 8.0 * found.stored_bytes)


def best_spec(w: Floats, h: Doubles, bits: float, seed: int = 0) -> MatrixSpec:
    """The trellis form of at most `bits` per weight, everything stored counted, that gives the most for its bytes.

    A form with fewer bytes is credited with what rank 0 would make of the rest, so that rank never costs more than it brings.
    """
    rows, cols = w.shape
    forms = [spec for spec in specs(rows, cols, seed) if stored_bits(spec) <= bits]
    forms = [spec for spec in forms if spec.bits == max(form.bits for form in forms)]
    if not forms:
        raise ValueError(f"nothing can be stored in {bits} bits per weight; one bit and scales are the least")
    gain = CODE_ERROR["trellis"][3] / CODE_ERROR["trellis"][2]  # of one more bit
    credited = [error * gain ** (bits - stored_bits(spec)) for spec, error in zip(forms, predicted_errors(w, h, forms), strict=True)]
    return forms[int(np.argmin(credited))]


def specs(rows: int, cols: int, seed: int = 0) -> list[MatrixSpec]:
    """Every trellis form of a matrix that is worth a look."""
    plain = [plain_spec(rows, cols, bits, seed) for bits in BITS["trellis"]]
    return plain + [
        replace(spec, rank=rank, factor_bits=factor_bits)
        for spec in plain
        for factor_bits, ranks in RANKS.items()
        for rank in ranks
        if rank <= min(rows, cols)
    ]


def plain_spec(rows: int, cols: int, bits: int, seed: int = 0) -> MatrixSpec:
    """Rank 0, rotated on both sides."""
    return MatrixSpec("trellis", bits, rows, cols, 0, rotation_seed(seed, "in", cols), rotation_seed(seed, "out", rows))


def stored_bits(spec: MatrixSpec) -> float:
    """Bits per weight of all tensors of `spec`, float16 scales."""
    sizes = {"U8": 8, "I8": 8, "F16": 16}
    total = sum(
        next(sizes[name] for name in sizes if name in tensor.dtypes) * math.prod(tensor.shape) for tensor in spec.tensors("").values()
    )
    return total / (spec.rows * spec.cols)


def caldera_within(w: Floats, h: Doubles, bits: float, *, seed: int = 0) -> Approximation:
    """CALDERA with the largest rank that fits; its codes always have 2 bits."""
    if bits < 2:
        raise ValueError(f"CALDERA's codes have 2 bits; {bits} are too few")
    rank = int((bits - 2) * w.size / (_CALDERA_FACTOR_BITS * sum(w.shape)) + 1e-9)
    return caldera.caldera(w, h, min(rank, *w.shape), seed)


def gptq(w: Floats, h: Doubles, bits: float, *, seed: int = 0) -> Approximation:
    """GPTQ at the whole bits, scales of groups on top; nothing in it is random."""
    return uniform.gptq(w, h, int(bits))


def rtn(w: Floats, h: Doubles, bits: float, *, seed: int = 0) -> Approximation:
    """Rounding to nearest at the whole bits, scales of groups on top; the Hessian is not used."""
    return uniform.rtn(w, int(bits))


METHODS: Mapping[str, Method] = {"leanto": leanto, "caldera": caldera_within, "gptq": gptq, "rtn": rtn}
