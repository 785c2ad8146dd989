"""A compressed matrix as torch parameters: everything of it that is not a code can learn, and goes back into the artifact's tensors.

Scales, tables, and the factors of 8 and 16 bits; of 4-bit factors only their scales. Knows nothing of models or of what is learnt.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import leanto_kernels
from leanto_edge.artifact.factors import dense_factors
from leanto_edge.artifact.layout import CODED, COLUMN_GROUP, padded
from leanto_edge.artifact.tensor_file import Array
from leanto_edge.compress.matrix import CompressedMatrix
from leanto_edge.compress.rounding import fits_float16, int8_scales, inverse, stored_scales

_LARGEST_SUM = 127  # of two table entries


class LearnableMatrix:
    """The parts of one matrix as parameters of about unit size: what is learnt is how much larger, or how many table steps off, each is."""

    def __init__(self, matrix: CompressedMatrix) -> None:
        self.matrix = matrix
        spec, tensors = matrix.spec, matrix.tensors
        self._scales = torch.from_numpy(tensors["scales"].astype(np.float32))
        self.scale_gain = torch.zeros(spec.rows, requires_grad=True)
        self.tables = torch.zeros(2, 16, requires_grad=True)
        if spec.kind in CODED:
            self._tables = torch.from_numpy(tensors["tables"].astype(np.float32))
            self._indices = [_indices(matrix, which) for which in (0, 1)]
        else:
            self._values = torch.from_numpy(tensors["codes"][:, : spec.cols].astype(np.float32))
        left, right = dense_factors(spec, tensors)
        self._left, self._right = torch.from_numpy(left), torch.from_numpy(right)
        self.left, self.right = torch.zeros_like(self._left, requires_grad=True), torch.zeros_like(self._right, requires_grad=True)
        self.rank_gain = torch.zeros(spec.rank, requires_grad=True)

    def parameters(self) -> Iterator[tuple[Any, float]]:
        """The tensors that learn, each with the size of a step of it relative to the others'."""
        spec = self.matrix.spec
        yield self.scale_gain, 1.0
        if spec.kind in CODED:
            yield self.tables, 20.0  # in integer steps, of entries up to 64
        if spec.rank and spec.factor_bits == 4:
            yield self.rank_gain, 1.0
        elif spec.rank:
            yield self.left, _typical(self._left)
            yield self.right, _typical(self._right)

    def weight(self) -> Any:
        """The weight (m, n), differentiable in all parameters."""
        spec = self.matrix.spec
        scales = self._scales * (1 + self.scale_gain)
        if spec.kind in CODED:
            rotated = scales[:, None] * _LookUp.apply(self._tables + self.tables, *self._indices)
        else:
            rotated = scales[:, None] * self._values
        if spec.rank:
            rotated = rotated + self._current_left() @ (self._right + self.right)
        return _restored(rotated, spec.in_seed, spec.out_seed)

    def rounded(self) -> CompressedMatrix:
        """The matrix with everything learnt, as the artifact can store it."""
        spec = self.matrix.spec
        tensors = dict(self.matrix.tensors)
        with torch.no_grad():
            scales = (self._scales * (1 + self.scale_gain)).numpy()
            tensors["scales"] = scales.astype(np.float16) if fits_float16(scales) else scales
            if spec.kind in CODED:
                tensors["tables"] = _rounded_tables((self._tables + self.tables).numpy(), scalar=spec.kind == "scalar")
            if spec.rank and spec.factor_bits == 4:
                gained = stored_scales(tensors["left_scales"].astype(np.float32) * (1 + self.rank_gain.numpy()))
                tensors["left_scales"] = gained.astype(np.float16) if fits_float16(gained) else gained
            elif spec.rank:
                tensors |= _stored_factor("left", self._current_left().T.numpy(), spec.factor_bits)
                tensors |= _stored_factor("right", (self._right + self.right).numpy(), spec.factor_bits)
        return CompressedMatrix(spec, tensors, self.matrix.error)

    def _current_left(self) -> Any:
        return (self._left + self.left) * (1 + self.rank_gain)


class _LookUp(torch.autograd.Function):  # type: ignore[misc]
    """A[ia] + B[ib] for tables (2, 16) float32 and indices (m, n) uint8; the gradient of an entry is the sum over where it was taken."""

    @staticmethod
    def forward(ctx: Any, tables: Any, first: NDArray[np.uint8], second: NDArray[np.uint8]) -> Any:
        ctx.indices = (first, second)
        a, b = tables.detach().numpy()
        return torch.from_numpy(np.take(a, first) + np.take(b, second))

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        weights = gradients[0].numpy().ravel()
        sums = [np.bincount(indices.ravel(), weights, minlength=16) for indices in ctx.indices]
        return torch.from_numpy(np.stack(sums).astype(np.float32)), None, None


class _Rotate(torch.autograd.Function):  # type: ignore[misc]
    """Rᵀ applied to every row of w (m, n); the transpose of a rotation is its inverse."""

    @staticmethod
    def forward(ctx: Any, w: Any, seed: int) -> Any:
        ctx.seed = seed
        return torch.from_numpy(leanto_kernels.rotate_transpose(w.detach().contiguous().numpy(), seed))

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        return torch.from_numpy(leanto_kernels.rotate(gradients[0].contiguous().numpy(), ctx.seed)), None


def _restored(rotated: Any, in_seed: int, out_seed: int) -> Any:
    """R_outᵀ W R_in: leanto_edge.compress.incoherence.restore_weight, differentiable."""
    w: Any = _Rotate.apply(rotated, in_seed) if in_seed else rotated
    return _Rotate.apply(w.T, out_seed).T if out_seed else w


def _indices(matrix: CompressedMatrix, which: int) -> NDArray[np.uint8]:
    """Where each weight looks in one of the two tables, (m, n): what tables that name their entries decode to."""
    spec = matrix.spec
    tables = np.zeros((2, 16), np.int8)
    if spec.kind != "scalar" or which == 0:  # scalar codes have no second table
        tables[which] = np.arange(16)
    codes = np.ascontiguousarray(matrix.tensors["codes"], np.uint8)
    found = leanto_kernels.decode_trellis(codes, tables, spec.bits, spec.rows, kind=spec.kind)
    return np.ascontiguousarray(found[: spec.rows, : spec.cols]).view(np.uint8)


def _rounded_tables(tables: NDArray[np.float32], *, scalar: bool) -> NDArray[np.int8]:
    """The nearest tables that the format allows."""
    a, b = np.rint(tables)
    if scalar:
        b[:] = 0
    a, b = np.clip(a, -_LARGEST_SUM, _LARGEST_SUM), np.clip(b, -_LARGEST_SUM, _LARGEST_SUM)
    while np.abs(np.add.outer(a, b)).max() > _LARGEST_SUM:  # the furthest entries give way
        for table in (a, b):
            furthest = np.argmax(np.abs(table))
            table[furthest] -= np.sign(table[furthest])
    return np.stack([a, b]).astype(np.int8)


def _stored_factor(side: str, rows: NDArray[np.float32], bits: int) -> Mapping[str, Array]:
    """A factor given in rows (r, length), rounded to the nearest."""
    if bits == 16:
        return {side: np.ascontiguousarray(rows if side == "right" else rows.T).astype(np.float16)}
    scales = int8_scales(rows)
    codes = np.zeros((len(rows), padded(rows.shape[1], COLUMN_GROUP)), np.int8)
    codes[:, : rows.shape[1]] = np.clip(np.rint(rows * inverse(scales)[:, None]), -127, 127)
    return {side: codes, f"{side}_scales": scales.astype(np.float16) if fits_float16(scales) else scales}


def _typical(x: Any) -> float:
    return float(x.square().mean().sqrt())
