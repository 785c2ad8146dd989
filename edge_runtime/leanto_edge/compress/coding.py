"""Codes of a whole matrix: LDLQ and sweeps over blocks of 256 rows, in parallel, and the tensors that hold them.

Knows the kinds of codes, nothing of rotations and low rank.
"""

from __future__ import annotations

from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

import leanto_kernels
from leanto_edge.artifact.layout import BLOCK, COLUMN_GROUP, MatrixSpec, padded
from leanto_edge.artifact.tensor_file import Array
from leanto_edge.compress.ldlq import Rounded, best_scales, damped_lower, ldlq, rounding_order, sweep
from leanto_edge.compress.rounding import (
    CODE_ERROR,
    Int8Rounder,
    Rounder,
    TrellisRounder,
    fits_float16,
    int8_scales,
    stored_scales,
    trellis_scales,
)

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]

FEEDBACK = 1.1  # how much larger the first scales are than those of the rows as they are, by the error that is fed back


@dataclass(frozen=True, slots=True)
class Codes:
    """Q = diag(scales) · values, block by block of rows."""

    blocks: tuple[Rounded, ...]
    scales: Floats  # (m,)

    @property
    def dense(self) -> Floats:
        """Q (m, n)."""
        return np.concatenate([block.values for block in self.blocks], axis=1).T * self.scales[:, None]


def encode(w: Floats, h: Doubles, spec: MatrixSpec, importance: Floats, executor: Executor) -> Codes:
    """LDLQ of w (m, n) under h (n, n) positive definite, with scales that fit the codes found."""
    order, wide = rounding_order(h), h.astype(np.float32)
    lower = damped_lower(h[np.ix_(order, order)], CODE_ERROR[spec.kind][spec.bits])

    def rows(top: int) -> tuple[Rounded, Floats]:
        block = slice(top, top + BLOCK)
        columns = np.ascontiguousarray(w[block].T)
        rounded = ldlq(columns[order], lower, _rounder(spec, _first_scales(w[block], spec), importance[block]))
        rounded = rounded.reordered(np.argsort(order))
        return rounded, stored_scales(best_scales(columns, wide, rounded.values))

    return _joined(list(executor.map(rows, range(0, len(w), BLOCK))))


def refine(codes: Codes, w: Floats, h: Doubles, spec: MatrixSpec, importance: Floats, sweeps: int, executor: Executor) -> Codes:
    """`codes` after `sweeps` more rounds over all columns for the target w (m, n) under h (n, n). The codes given are used up."""
    wide = h.astype(np.float32)

    def rows(at: int) -> tuple[Rounded, Floats]:
        block = slice(at * BLOCK, (at + 1) * BLOCK)
        columns, rounded = np.ascontiguousarray(w[block].T), codes.blocks[at]
        for _ in range(sweeps):
            scales = stored_scales(best_scales(columns, wide, rounded.values))
            sweep(columns, wide, rounded, _rounder(spec, scales, importance[block]))
        return rounded, stored_scales(best_scales(columns, wide, rounded.values))

    return _joined(list(executor.map(rows, range(len(codes.blocks)))))


def code_tensors(codes: Codes, spec: MatrixSpec) -> dict[str, Array]:
    """The tensors codes, scales and (for coded kinds) tables, as docs/format.md has them."""
    narrow = np.concatenate([block.codes for block in codes.blocks], axis=1).T
    wide = np.zeros((len(narrow), padded(spec.cols, COLUMN_GROUP)), np.uint8)
    wide[:, : spec.cols] = narrow
    scales = codes.scales.astype(np.float16) if fits_float16(codes.scales) else codes.scales
    if spec.kind == "int8":
        return {"codes": wide.view(np.int8), "scales": scales}
    return {"codes": wide, "scales": scales, "tables": leanto_kernels.tables(spec.bits, spec.kind)}


def _joined(parts: list[tuple[Rounded, Floats]]) -> Codes:
    return Codes(tuple(rounded for rounded, _ in parts), np.concatenate([scales for _, scales in parts]))


def _first_scales(w: Floats, spec: MatrixSpec) -> Floats:
    if spec.kind == "int8":
        return int8_scales(w)
    return stored_scales((1 + FEEDBACK * CODE_ERROR[spec.kind][spec.bits]) * trellis_scales(w, spec.bits, spec.kind))


def _rounder(spec: MatrixSpec, scales: Floats, importance: Floats) -> Rounder:
    return Int8Rounder(scales) if spec.kind == "int8" else TrellisRounder(scales, spec.bits, importance, spec.kind)
