"""Rounds low-rank factors to what the format stores: float16, int8, or 4-bit trellis codes down the rank, a scale for each rank row.

R is rounded first, then L is solved again for the rounded R and rounded under their Gram matrix. Knows nothing of Q.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

import leanto_kernels
from leanto_edge.artifact.factors import dense_factors
from leanto_edge.artifact.layout import COLUMN_GROUP, MatrixSpec, padded
from leanto_edge.artifact.tensor_file import Array
from leanto_edge.compress.ldlq import ldlq, unit_lower
from leanto_edge.compress.rounding import Int8Rounder, fits_float16, int8_scales, inverse, stored_scales

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]

FACTOR_ERROR = {8: 1e-4, 16: 1e-7}  # of each factor, relative to its energy, normal entries
_RIDGE = 1e-9  # of a Gram matrix's mean diagonal, added to its diagonal


@dataclass(frozen=True, slots=True)
class Factors:
    """L·R as stored: `tensors` by suffix, and what they stand for: left (m, r), right (r, n) float32."""

    tensors: Mapping[str, Array]
    left: Floats
    right: Floats

    @property
    def product(self) -> Floats:
        """L R (m, n)."""
        return self.left @ self.right


def no_factors(spec: MatrixSpec) -> Factors:
    """Those of rank 0."""
    return Factors({}, *dense_factors(spec, {}))


def round_right(right: Doubles, weights: Doubles, spec: MatrixSpec) -> tuple[dict[str, Array], Floats]:
    """Tensors of R (r, n) and what they stand for; `weights` (r,) say how much each row's squared error counts."""
    if spec.factor_bits == 16:
        halves = _halves(right)
        return {"right": halves}, halves.astype(np.float32)
    return _stored("right", right.astype(np.float32), np.diag(weights), spec)


def round_left(left: Doubles, gram: Doubles, spec: MatrixSpec) -> tuple[dict[str, Array], Floats]:
    """Tensors of L (m, r) and what they stand for, with little tr(E G Eᵀ), E the error and G (r, r) the Gram matrix of R."""
    if spec.factor_bits == 16:
        halves = _halves(left)
        return {"left": halves}, halves.astype(np.float32)
    tensors, found = _stored("left", left.T.astype(np.float32), gram, spec)
    return tensors, np.ascontiguousarray(found.T)


def _stored(side: str, rows: Floats, gram: Doubles, spec: MatrixSpec) -> tuple[dict[str, Array], Floats]:
    """Round `rows` (r, length), the errors of whose rows interact through `gram` (r, r)."""
    found = _round_int8(rows, gram) if spec.factor_bits == 8 else _round_trellis(rows, gram)
    codes, values, scales = found
    wide = np.zeros((len(codes), padded(rows.shape[1], COLUMN_GROUP)), codes.dtype)
    wide[:, : rows.shape[1]] = codes
    tensors: dict[str, Array] = {side: wide, f"{side}_scales": scales.astype(np.float16) if fits_float16(scales) else scales}
    if spec.factor_bits == 4:
        tensors["factor_tables"] = leanto_kernels.tables(4)
    return tensors, values * scales[:, None]


def _round_int8(rows: Floats, gram: Doubles) -> tuple[Array, Floats, Floats]:
    """LDLQ over the rank, in units of each row's scale."""
    scales = int8_scales(rows)
    wide = scales.astype(np.float64)
    metric = gram * np.outer(wide, wide)
    metric[np.diag_indices_from(metric)] += _RIDGE * np.trace(metric) / len(metric) or 1.0
    rounder = Int8Rounder(np.ones(rows.shape[1], np.float32))
    values = ldlq(rows * inverse(scales)[:, None], unit_lower(metric), rounder).values
    return values, values.astype(np.float32), scales


def _round_trellis(rows: Floats, gram: Doubles) -> tuple[Array, Floats, Floats]:
    """Codes down the rank, each row's error counted alone: Viterbi does not see how the rows' errors interact, and they hardly do."""
    scales = stored_scales(np.sqrt(np.mean(np.square(rows, dtype=np.float64), axis=1)) * leanto_kernels.unit(4))
    energies = np.diag(gram) * np.square(scales, dtype=np.float64)
    weights = np.asarray(energies / (energies.max() or 1.0), np.float32)
    targets = np.asarray(rows * inverse(scales)[:, None], np.float32)
    codes, values = leanto_kernels.encode_trellis(targets, leanto_kernels.tables(4), 4, threads=1, weights=weights)
    return codes, values.astype(np.float32), scales


def _halves(factor: Doubles) -> NDArray[np.float16]:
    if np.abs(factor).max(initial=0) > np.finfo(np.float16).max:
        raise ValueError("the low-rank factors are too large for float16; choose factor_bits 8 or 4")
    return factor.astype(np.float16)
