"""Rounds low-rank factors to what the format stores: float16, int8, or 4-bit trellis codes down the rank, a scale for each rank row.

R is rounded first, then L is solved again for the rounded R and rounded under their Gram matrix. Knows nothing of Q.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

import leanto_kernels
from leanto_edge.compress.ldlq import ldlq, unit_lower
from leanto_edge.compress.rounding import Int8Rounder, fits_float16, int8_scales, inverse, stored_scales
from leanto_edge.factors import dense_factors
from leanto_edge.layout import COLUMN_GROUP, MatrixSpec, padded
from leanto_edge.tensor_file import Array

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]

FACTOR_ERROR = {8: 1e-4, 16: 1e-7}  # of each factor, relative to its energy, normal entries
_PASSES = 3  # of the correlated rounding of a 4-bit L
_STARTS = 16  # rows that a 4-bit string is tried to begin at, every second one
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
    """Codes down the rank. Their errors interact, which Viterbi cannot see: majorize by a diagonal, round, keep the columns that gain."""
    scales = stored_scales(np.sqrt(np.mean(np.square(rows, dtype=np.float64), axis=1)) * leanto_kernels.unit(4))
    units = scales.astype(np.float64)
    targets = rows * inverse(scales)[:, None]
    metric = gram * np.outer(units, units)
    metric /= np.diag(metric).max() or 1.0
    tables = leanto_kernels.tables(4)
    codes, kept = _tail_biting(targets, tables, np.diag(metric).astype(np.float32))
    narrow = metric.astype(np.float32)
    bound = np.abs(narrow).sum(axis=1)
    for _ in range(_PASSES):
        error = targets - kept
        wanted = np.asarray(kept + (narrow @ error) * inverse(bound)[:, None], np.float32)
        again, found = _tail_biting(wanted, tables, bound)
        better = _energy(targets - found, narrow) < _energy(error, narrow)
        codes[:, better], kept[:, better] = again[:, better], found[:, better]
    return codes, kept, scales


def _tail_biting(targets: Floats, tables: NDArray[np.int8], weights: Floats) -> tuple[NDArray[np.uint8], Floats]:
    """Codes and values of targets (r, length). The encoder guesses what a string's ends share, badly for short strings: begin at
    several rows, keep the best of each column. Two rows are a byte."""
    best: tuple[NDArray[np.uint8], Floats] | None = None
    least = np.full(targets.shape[1], np.inf, np.float32)
    for start in range(0, min(len(targets), _STARTS), 2):
        turned = np.ascontiguousarray(np.roll(targets, -start, axis=0))
        codes, values = leanto_kernels.encode_trellis(turned, tables, 4, threads=1, weights=np.roll(weights, -start))
        codes, found = np.roll(codes, start // 2, axis=0), np.roll(values, start, axis=0).astype(np.float32)
        miss = weights @ np.square(targets - found)
        if best is None:
            best, least = (codes, found), miss
        better = miss < least
        best[0][:, better], best[1][:, better], least[better] = codes[:, better], found[:, better], miss[better]
    assert best is not None
    return best


def _energy(error: Floats, metric: Floats) -> Floats:
    """Of each column of error (r, length)."""
    found: Floats = (error * (metric @ error)).sum(axis=0)
    return found


def _halves(factor: Doubles) -> NDArray[np.float16]:
    if np.abs(factor).max(initial=0) > np.finfo(np.float16).max:
        raise ValueError("the low-rank factors are too large for float16; choose factor_bits 8 or 4")
    return factor.astype(np.float16)
