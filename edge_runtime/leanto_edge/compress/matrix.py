"""One weight matrix through the whole recipe: rotate → low rank → LDLQ with sweeps → scales → the tensors of the artifact, and back.

Knows nothing of models, files and calibration text: a matrix, its Hessian and a MatrixSpec go in.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

import leanto_kernels
from leanto_edge.compress.incoherence import restore_weight, rotate_hessian, rotate_weight
from leanto_edge.compress.ldlq import Rounded, best_scales, ldlq, sweep, unit_lower
from leanto_edge.compress.lowrank import fit_low_rank
from leanto_edge.compress.rounding import Int8Rounder, Rounder, TrellisRounder, fits_float16, int8_scales, stored_scales, trellis_scales
from leanto_edge.layout import BLOCK, COLUMN_GROUP, MatrixSpec, padded
from leanto_edge.tensor_file import Array

Floats = NDArray[np.float32]

DAMPING = 0.01  # of the Hessian's mean diagonal, added to its diagonal


@dataclass(frozen=True, slots=True)
class CompressedMatrix:
    """A matrix as the artifact stores it. `tensors` by suffix (codes, scales, ...); `error` = tr(E H Eᵀ) / tr(W H Wᵀ)."""

    spec: MatrixSpec
    tensors: Mapping[str, Array]
    error: float

    @property
    def stored_bytes(self) -> int:
        """Bytes of all its tensors."""
        return sum(tensor.nbytes for tensor in self.tensors.values())


def compress_matrix(
    w: Floats, h: NDArray[np.float64], spec: MatrixSpec, *, sweeps: int, executor: Executor, importance: Floats | None = None
) -> CompressedMatrix:
    """Compress w (m, n) under the Hessian h (n, n) as `spec` says; blocks of 256 rows run in parallel on `executor`.

    `importance` (m,): how much each row's error counts (None: all the same); of use only where rows are not rotated.
    """
    h = rotate_hessian(h, spec.in_seed)
    h[np.diag_indices_from(h)] += DAMPING
    rotated = rotate_weight(w, spec.in_seed, spec.out_seed)
    left, right = fit_low_rank(rotated, h, spec.rank)
    residual: Floats = np.subtract(rotated, left.astype(np.float32) @ right.astype(np.float32), dtype=np.float32)
    lower, wide = unit_lower(h), h.astype(np.float32)
    importance = np.ones(len(w), np.float32) if importance is None else importance

    def rows(top: int) -> tuple[Rounded, Floats]:
        block = slice(top, top + BLOCK)
        return _compress_rows(residual[block], wide, lower, spec, sweeps, importance[block])

    parts = list(executor.map(rows, range(0, len(w), BLOCK)))
    tensors = _tensors(spec, parts)
    if spec.rank:
        tensors |= {"left": left, "right": right}
    error = rotated - _rotated_weight(spec, tensors)
    return CompressedMatrix(spec, tensors, _energy(error, wide) / (_energy(rotated, wide) or 1.0))


def decompress_matrix(spec: MatrixSpec, tensors: Mapping[str, Array]) -> Floats:
    """The weight (m, n) that `tensors` stand for: R_outᵀ (Q + L R) R_in."""
    if spec.kind == "dense":
        return tensors["weight"].astype(np.float32)
    return restore_weight(_rotated_weight(spec, tensors), spec.in_seed, spec.out_seed)


def _compress_rows(w: Floats, h: Floats, lower: Floats, spec: MatrixSpec, sweeps: int, importance: Floats) -> tuple[Rounded, Floats]:
    """One block of rows: codes and scales."""
    columns = np.ascontiguousarray(w.T)
    rounder = _rounder(spec, int8_scales(w) if spec.kind == "int8" else trellis_scales(w, spec.bits), importance)
    rounded = ldlq(columns, lower, rounder)
    for _ in range(sweeps):
        rounder = _rounder(spec, stored_scales(best_scales(columns, h, rounded.values)), importance)
        sweep(columns, h, rounded, rounder)
    return rounded, stored_scales(best_scales(columns, h, rounded.values))


def _rounder(spec: MatrixSpec, scales: Floats, importance: Floats) -> Rounder:
    return Int8Rounder(scales) if spec.kind == "int8" else TrellisRounder(scales, spec.bits, importance)


def _tensors(spec: MatrixSpec, parts: list[tuple[Rounded, Floats]]) -> dict[str, Array]:
    codes = np.concatenate([rounded.codes for rounded, _ in parts], axis=1).T
    scales = np.concatenate([scales for _, scales in parts])
    wide = np.zeros((len(codes), padded(spec.cols, COLUMN_GROUP)), np.uint8)
    wide[:, : spec.cols] = codes
    tensors: dict[str, Array] = {"codes": wide, "scales": scales.astype(np.float16) if fits_float16(scales) else scales}
    if spec.kind == "int8":
        return tensors | {"codes": wide.view(np.int8)}
    return tensors | {"tables": leanto_kernels.tables(spec.bits)}


def _rotated_weight(spec: MatrixSpec, tensors: Mapping[str, Array]) -> Floats:
    """Q + L R (m, n), in rotated space."""
    if spec.kind == "int8":
        values = tensors["codes"]
    else:
        codes, tables = np.ascontiguousarray(tensors["codes"], np.uint8), np.ascontiguousarray(tensors["tables"], np.int8)
        values = leanto_kernels.decode_trellis(codes, tables, spec.bits, spec.rows)
    found = values[: spec.rows, : spec.cols].astype(np.float32) * tensors["scales"].astype(np.float32)[:, None]
    if spec.rank:
        found += tensors["left"].astype(np.float32) @ tensors["right"].astype(np.float32)
    return found


def _energy(e: Floats, h: Floats) -> float:
    """tr(E H Eᵀ)."""
    return float(np.sum((e @ h) * e, dtype=np.float64))
