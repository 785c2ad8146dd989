"""Products of stored matrices on a GPU, in Triton: for a few vectors every weight is decoded in registers, for many the codes become
a dense matrix that lives as long as the product. Arithmetic is that of docs/format.md, but activations are not rounded to integers.

Knows the format's tensors and torch; nothing of files, modules and transformers. Needs the extra `gpu`.
"""

# Triton compiles what is marked with jit: operators and keywords there are its own.
# pyright: reportArgumentType=false, reportCallIssue=false, reportGeneralTypeIssues=false, reportIndexIssue=false, reportOperatorIssue=false

from __future__ import annotations

import functools
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

import leanto_kernels
from leanto_edge.artifact.layout import CODED, MatrixSpec
from leanto_edge.errors import DependencyError

try:
    import triton
    import triton.language as tl
except ModuleNotFoundError:
    raise DependencyError("leanto_edge.transformers.gpu needs Triton: pip install 'leanto[gpu]'") from None

FEW = 16  # vectors that are multiplied with codes; more are worth a dense matrix
TILE_ROWS, TILE_COLS = 16, 128  # of the weights that a program decodes at a time
PROGRAMS, SHORTEST = 256, 512  # with fewer programs than this the columns are split as well, into parts no shorter than that


@triton.jit
def _window(codes, row, col, rows, width, BITS: tl.constexpr, REACH: tl.constexpr):
    """The REACH bits from which the number at `row` and `col` is made, around the end of the string of its block."""
    block, bit = row // 256, row % 256 * BITS
    first, length = block * 32 * BITS, tl.minimum(rows - block * 256, 256) // 8 * BITS  # of the string, in byte rows
    window = 0
    for i in tl.static_range((REACH + 14) // 8):
        byte_row = first + (bit // 8 + i) % length
        byte = tl.load(codes + byte_row.to(tl.int64) * width + col, mask=col < width, other=0)
        window = byte.to(tl.int32) << 8 * i | window
    return window >> bit % 8 & (1 << REACH) - 1


@triton.jit
def _values(codes, tables, row, col, rows, width, KIND: tl.constexpr, BITS: tl.constexpr):
    """What is stored at `row` and `col`, index tensors that broadcast, of `rows` rows of `width` numbers; without any scale.

    Rows outside repeat the nearest one, columns past the end are 0 or padding: whoever asks for them must not use them.
    """
    row = tl.minimum(tl.maximum(row, 0), rows - 1)
    if KIND == "plain":
        value = tl.load(codes + row.to(tl.int64) * width + col, mask=col < width, other=0)
    elif KIND == "trellis":
        w = _window(codes, row, col, rows, width, BITS, 12)
        w0, w4, w8 = w & 15, w >> 4 & 15, w >> 8
        value = tl.load(tables + (w0 ^ w8)) + tl.load(tables + 16 + (w4 ^ (w8 << 1 & 15)))
    elif KIND == "additive":
        w = _window(codes, row, col, rows, width, BITS, 8)
        value = tl.load(tables + (w & 15)) + tl.load(tables + 16 + (w >> 4))
    else:
        value = tl.load(tables + _window(codes, row, col, rows, width, BITS, BITS))
    return value


@triton.jit
def _multiply(
    y, x, codes, tables, scales, m, n, tokens, rows, width, part,
    KIND: tl.constexpr, BITS: tl.constexpr, TRANSPOSED: tl.constexpr, PRECISION: tl.constexpr,
    TOKENS: tl.constexpr, ROWS: tl.constexpr, COLS: tl.constexpr,
):  # fmt: skip
    """y (parts, tokens, m) float32: sums of W x over parts of the n columns, for x (tokens, n) float32."""
    i, token = tl.program_id(0) * ROWS + tl.arange(0, ROWS), tl.arange(0, TOKENS)
    begin = tl.program_id(1) * part
    total = tl.full([ROWS, TOKENS], 0, tl.float32)
    for start in range(begin, tl.minimum(begin + part, n), COLS):
        j = start + tl.arange(0, COLS)
        vectors = tl.load(x + token[None, :] * n + j[:, None], mask=(token < tokens)[None, :] & (j < n)[:, None], other=0)
        if TRANSPOSED:
            value = _values(codes, tables, j[None, :], i[:, None], rows, width, KIND, BITS)
            vectors *= tl.load(scales + j, mask=j < n, other=0).to(tl.float32)[:, None]
        else:
            value = _values(codes, tables, i[:, None], j[None, :], rows, width, KIND, BITS)
        total = tl.dot(value.to(tl.float32), vectors, total, input_precision=PRECISION)
    if scales is not None and not TRANSPOSED:
        total *= tl.load(scales + i, mask=i < m, other=0).to(tl.float32)[:, None]
    at = (tl.program_id(1) * tokens + token[None, :]) * m + i[:, None]
    tl.store(y + at, total, mask=(token < tokens)[None, :] & (i < m)[:, None])


@triton.jit
def _decode(
    w, ids, codes, tables, scales, count, rows, width,
    KIND: tl.constexpr, BITS: tl.constexpr, ROWS: tl.constexpr, COLS: tl.constexpr,
):  # fmt: skip
    """w (count, width): the stored rows `ids` (count,), or the first ones, times their scales."""
    k, j = tl.program_id(0) * ROWS + tl.arange(0, ROWS), tl.program_id(1) * COLS + tl.arange(0, COLS)
    row = k if ids is None else tl.load(ids + k, mask=k < count, other=0).to(tl.int32)
    value = _values(codes, tables, row[:, None], j[None, :], rows, width, KIND, BITS).to(tl.float32)
    if scales is not None:
        value *= tl.load(scales + row, mask=k < count, other=0).to(tl.float32)[:, None]
    at = k[:, None].to(tl.int64) * width + j[None, :]
    tl.store(w + at, value.to(w.dtype.element_ty), mask=(k < count)[:, None] & (j < width)[None, :])


def usable(device: Any) -> bool:
    """Whether a small product comes out right on `device`; a warning says why not (Triton needs a C compiler, and a GPU that it knows)."""
    codes, table = np.arange(64, dtype=np.uint8).reshape(2, 32), leanto_kernels.tables(2)
    expected = leanto_kernels.decode_trellis(codes, table, 2, 8).sum(1).tolist()
    try:
        stored = Stored("trellis", 2, 8, 32, torch.from_numpy(codes).to(device), torch.from_numpy(table).to(device))
        found = stored.times(torch.ones(1, 32, device=device), torch.float16)[0].tolist()
        if found != expected:
            raise ArithmeticError(f"a product is {found} and should be {expected}")
    except Exception as fault:
        warnings.warn(f"{device} multiplies dense weights, for its Triton does not work: {fault}", RuntimeWarning, stacklevel=2)
        return False
    return True


@dataclass(frozen=True, slots=True)
class Stored:
    """A matrix (m, n) as its tensors lie on the device: codes of a `kind` and its `bits`, or "plain" numbers (`bits` 8), times the scales
    of the rows (None: not scaled). A transposed one lies as (n, m), and its scales are those of the n rows that lie there."""

    kind: str
    bits: int
    m: int
    n: int
    codes: Any
    tables: Any = None
    scales: Any = None
    transposed: bool = False

    @property
    def rows(self) -> int:
        """How many lie there, the padding of codes included."""
        return int(self.codes.shape[0]) * 8 // self.bits

    def times(self, x: Any, dtype: Any = torch.float32) -> Any:
        """x (tokens, n) float32 → (tokens, m) float32, as a model of type `dtype` needs it: for few tokens x keeps 10 bits of its mantissa
        where `dtype` has no more, for many all is rounded to `dtype`."""
        tokens, tiles = len(x), triton.cdiv(self.m, TILE_ROWS)
        if not 0 < tokens <= FEW:
            return (x.to(dtype) @ self.decoded(dtype).T).float()
        parts = max(1, min(PROGRAMS // tiles, self.n // SHORTEST))
        part = triton.cdiv(triton.cdiv(self.n, parts), TILE_COLS) * TILE_COLS
        y = torch.empty(triton.cdiv(self.n, part), tokens, self.m, dtype=torch.float32, device=x.device)
        with torch.cuda.device_of(x):
            _multiply[tiles, len(y)](
                y, x.float().contiguous(), self.codes, self.tables, self.scales,
                self.m, self.n, tokens, self.rows, self.codes.shape[1], part,
                self.kind, self.bits, self.transposed, "ieee" if dtype.itemsize > 2 else "tf32",
                triton.next_power_of_2(tokens), TILE_ROWS, TILE_COLS, enable_fp_fusion=True,
            )  # fmt: skip
        return y[0] if len(y) == 1 else y.sum(0)

    def decoded(self, dtype: Any, ids: Any = None) -> Any:
        """The matrix (m, n) in `dtype`, or its rows `ids` (count,) if it is not transposed."""
        width, count = self.codes.shape[1], self.n if self.transposed else self.m if ids is None else len(ids)
        w = torch.empty(count, width, dtype=dtype, device=self.codes.device)
        with torch.cuda.device_of(w):
            _decode[triton.cdiv(count, TILE_ROWS), triton.cdiv(width, TILE_COLS)](
                w, ids, self.codes, self.tables, self.scales, count, self.rows, width,
                self.kind, self.bits, TILE_ROWS, TILE_COLS, enable_fp_fusion=True,
            )  # fmt: skip
        return w[:, : self.m].T if self.transposed else w[:, : self.n]


@dataclass(frozen=True, slots=True)
class Rotation:
    """R = (C ⊗ H) diag(signs) of the format, with H = H_high ⊗ H_low so that two small products do; signs None: the identity."""

    signs: Any
    cosine: Any
    high: Any
    low: Any

    @classmethod
    def of(cls, dimension: int, seed: int, device: Any) -> Rotation:
        """The rotation of vectors (dimension,); seed 0: none."""
        if seed == 0:
            return cls(None, None, None, None)
        exponent = (dimension & -dimension).bit_length() - 1
        high, low = (_hadamard(1 << bits, device) for bits in (exponent - exponent // 2, exponent // 2))
        unit = np.zeros((1, dimension), np.float32)
        unit[0, 0] = 1  # the first row of C ⊗ H is positive throughout
        signs = torch.from_numpy(np.sign(leanto_kernels.rotate_transpose(unit, seed)[0])).to(device)
        return cls(signs, _cosine(dimension >> exponent, device), high, low)

    def forward(self, x: Any) -> Any:
        """R x for x (tokens, dimension) float32."""
        return x if self.signs is None else (self.cosine @ self._hadamards(x * self.signs)).reshape(x.shape)

    def back(self, x: Any) -> Any:
        """Rᵀ x for x (tokens, dimension) float32."""
        if self.signs is None:
            return x
        return self._hadamards(self.cosine.T @ x.reshape(len(x), len(self.cosine), -1)).reshape(x.shape) * self.signs

    def _hadamards(self, x: Any) -> Any:
        """(tokens, odd, power) of x, H applied along the last axis."""
        blocks = x.reshape(len(x), len(self.cosine), len(self.high), len(self.low))
        return (self.high @ blocks @ self.low).flatten(2)


class PackedMatrix:
    """One matrix of an artifact, W = R_outᵀ (diag(scales) · values + L R) R_in, whose tensors stay as they are stored."""

    def __init__(self, spec: MatrixSpec, tensors: Mapping[str, Any]) -> None:
        """`tensors`: those of the matrix on one device, by suffix (codes, scales, ...); not for dense ones."""
        device, kind = tensors["codes"].device, spec.kind if spec.kind in CODED else "plain"
        self.spec = spec
        self._q = Stored(kind, spec.bits, spec.rows, spec.cols, tensors["codes"], tensors.get("tables"), tensors["scales"])
        self._in, self._out = Rotation.of(spec.cols, spec.in_seed, device), Rotation.of(spec.rows, spec.out_seed, device)
        if spec.rank:
            form = ("trellis", 4) if spec.factor_bits == 4 else ("plain", 8)
            left, right = ((tensors[side], tensors.get("factor_tables"), tensors.get(f"{side}_scales")) for side in ("left", "right"))
            self._left = Stored(*form, spec.rows, spec.rank, *left, transposed=spec.factor_bits != 16)
            self._right = Stored(*form, spec.rank, spec.cols, *right)

    def linear(self, x: Any) -> Any:
        """W x for x (..., cols) → (..., rows), in the type of x."""
        inside = self._in.forward(x.reshape(-1, self.spec.cols).float())
        y = self._q.times(inside, x.dtype)
        if self.spec.rank:
            y += self._left.times(self._right.times(inside, x.dtype), x.dtype)
        return self._out.back(y).to(x.dtype).reshape(*x.shape[:-1], self.spec.rows)

    def embedding(self, ids: Any, dtype: Any) -> Any:
        """Rows `ids` (...), which are not checked, of W → (..., cols); the matrix has out_seed 0."""
        flat = ids.reshape(-1)
        rows = self._q.decoded(torch.float32, flat)
        if self.spec.rank:
            rows += self._left.decoded(torch.float32)[flat] @ self._right.decoded(torch.float32)
        return self._in.back(rows).to(dtype).reshape(*ids.shape, self.spec.cols)


@functools.cache
def _hadamard(order: int, device: Any) -> Any:
    """Sylvester's matrix over √order."""
    twos = [torch.tensor([[1.0, 1.0], [1.0, -1.0]])] * (order.bit_length() - 1)
    return (functools.reduce(torch.kron, twos, torch.ones(1, 1)) / order**0.5).to(device)


@functools.cache
def _cosine(order: int, device: Any) -> Any:
    """The orthonormal DCT-II; row k is frequency k."""
    k, j = torch.arange(order, dtype=torch.float64)[:, None], torch.arange(order, dtype=torch.float64)
    return ((torch.where(k == 0, 1, 2) / order).sqrt() * torch.cos(torch.pi * (j + 0.5) * k / order)).float().to(device)
