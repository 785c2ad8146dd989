"""Default codebooks: two int8 tables of 16 entries for each kind and bit width, and the size of one integer step.

Trained for a standard normal source by kernels/train_codebook.py (Viterbi paths and weighted least squares in turn, then int8 by
coordinate descent; Lloyd-Max for scalar). Knows nothing of packing: the format of the codes is in docs/format.md.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Codebook = tuple[float, tuple[int, ...], tuple[int, ...]]

# kind → bits → (unit, A, B), entries that are not written out being zero. The integer of a window, times unit, has the scale of N(0, 1):
# trellis A[w0 ^ w8] + B[w4 ^ (w8 << 1 & 15)], additive A[w0] + B[w4], scalar A[bits].
_CODEBOOKS: dict[str, dict[int, Codebook]] = {
    "trellis": {
        1: (
            0.01713710,
            (-64, 24, -35, 40, -7, -47, 39, 62, 19, -61, 41, -21, 63, 20, -41, -27),
            (-13, -21, 36, -23, -50, 25, 8, -52, 30, -2, -8, 12, 29, -32, -3, 64),
        ),
        2: (
            0.02356010,
            (38, -67, -21, 13, -33, 56, 21, -8, -13, -41, 20, -1, 64, -36, -8, 22),
            (-16, -3, -15, 11, -25, 15, -31, -2, 18, -16, 32, 52, -12, 36, 21, -59),
        ),
        3: (
            0.02413433,
            (10, -24, 48, 0, 19, 36, -44, -13, -73, -36, 9, 23, -9, -19, 72, 41),
            (-5, -3, -39, 11, 54, -22, -10, -3, -20, 24, 41, 22, -1, 10, 28, -50),
        ),
        4: (
            0.02670808,
            (3, 18, 5, -19, -13, 11, 19, -9, -3, 60, -47, -39, -60, 36, 26, -2),
            (-17, 5, -18, -31, 52, 2, -18, -1, -10, 10, -67, 36, -40, 36, 27, 24),
        ),
    },
    "additive": {
        1: (
            0.01417936,
            (46, -47, 15, -30, -5, -5, 52, -27, -39, 30, -51, 56, 41, -48, 10, 0),
            (-41, 40, 67, -61, -55, 69, 31, -39, 51, -70, -25, 23, 35, -21, -75, 69),
        ),
        2: (
            0.02102105,
            (10, 18, -32, 66, -60, 30, -27, -2, 47, -39, -6, 9, -18, 12, 50, -62),
            (37, -57, -10, 10, -42, 42, 48, -32, -27, 15, -57, 60, 3, -15, 8, 12),
        ),
        3: (
            0.02383564,
            (9, -54, 25, -6, -22, 43, 63, -34, -8, 39, -21, 6, 18, -64, -40, 69),
            (-2, -8, -25, 29, -61, 38, -18, -6, 21, 12, 35, -29, 4, 58, -42, 17),
        ),
        4: (
            0.02670012,
            (26, -14, -20, -38, 9, -7, 44, -27, 15, 22, 4, 33, 10, -1, -4, -51),
            (-53, 4, 42, 19, -43, -33, -20, -4, -12, 34, 12, 52, 75, -76, 27, -25),
        ),
    },
    "scalar": {
        1: (0.00831130, (-96, 96), ()),
        2: (0.01510350, (-100, -30, 30, 100), ()),
        3: (0.01888767, (-114, -71, -40, -13, 13, 40, 71, 114), ()),
        4: (0.02621721, (-104, -79, -62, -48, -36, -25, -15, -5, 5, 15, 25, 36, 48, 62, 79, 104), ()),
    },
}

# Mean squared error of N(0, 1) in tail-biting blocks of 256 rows, measured on 131,072 samples (exact for scalar).
GAUSSIAN_ERROR: dict[str, dict[int, float]] = {
    "trellis": {1: 0.2716, 2: 0.0724, 3: 0.0191, 4: 0.00537},
    "additive": {1: 0.2961, 2: 0.0799, 3: 0.0223, 4: 0.00616},
    "scalar": {1: 0.3634, 2: 0.1175, 3: 0.0346, 4: 0.00951},
}


def tables(bits: int, kind: str = "trellis") -> npt.NDArray[np.int8]:
    """Return the default tables [A, B], (2, 16) int8, of a kind and a bit width 1..4; ValueError for any other."""
    both = np.zeros((2, 16), np.int8)
    for row, entries in zip(both, _codebook(bits, kind)[1:], strict=True):
        row[: len(entries)] = entries
    return both


def unit(bits: int, kind: str = "trellis") -> float:
    """Return what one integer step is worth when the source has unit variance; ValueError for a codebook that does not exist."""
    return _codebook(bits, kind)[0]


def _codebook(bits: int, kind: str) -> Codebook:
    if bits not in _CODEBOOKS.get(kind, ()):
        raise ValueError(f"no {kind} codebook for {bits} bits: choose trellis, additive or scalar, and 1, 2, 3 or 4")
    return _CODEBOOKS[kind][bits]
