"""Rounds one column of up to 256 rows to codes: 1 to 4 bits per weight (trellis, additive, scalar) or int8, a scale for each row.

A rounder knows its rows' scales and nothing of other columns, Hessians or files.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

import leanto_kernels
from leanto_edge.artifact.layout import ROW_GROUP, padded
from leanto_kernels.codebook import GAUSSIAN_ERROR

Floats = NDArray[np.float32]

# Mean squared error of each kind and width of codes for a standard normal source.
CODE_ERROR: Mapping[str, Mapping[int, float]] = {**GAUSSIAN_ERROR, "int8": {8: 6e-5}}
INT8_LIMIT = 127
TINY = np.finfo(np.float32).tiny  # a row below it counts as zeros; its inverse would overflow
_INT8_SHRINKS = np.linspace(0.7, 1.0, 13)


class Rounder(Protocol):
    """Rounds columns of `rows` values."""

    scales: Floats
    code_bytes: int

    def round(self, target: Floats) -> tuple[NDArray[np.uint8], NDArray[np.int8]]:
        """Codes (code_bytes,) of a column (rows,) and the integers (rows,) that they stand for; times `scales` they approach it."""
        ...


class TrellisRounder:
    """Trellis-coded quantization down the rows of a block. Errors count in the units of the weights, times each row's importance."""

    def __init__(self, scales: Floats, bits: int, importance: Floats, kind: str = "trellis") -> None:
        self.scales, self.bits, self._kind = scales, bits, kind
        self.tables = leanto_kernels.tables(bits, kind)
        rows = padded(len(scales), ROW_GROUP)
        self.code_bytes = rows * bits // 8
        self._targets = np.zeros((rows, 1), np.float32)
        self._inverse = inverse(scales)
        self._weights = np.zeros(rows, np.float32)  # padding rows stay free
        self._weights[: len(scales)] = importance * np.square(scales / (scales.max() or 1.0))

    def round(self, target: Floats) -> tuple[NDArray[np.uint8], NDArray[np.int8]]:
        """As Rounder says."""
        self._targets[: len(target), 0] = target * self._inverse
        codes, values = leanto_kernels.encode_trellis(
            self._targets, self.tables, self.bits, threads=1, weights=self._weights, kind=self._kind
        )
        return codes[:, 0], values[: len(target), 0]


class Int8Rounder:
    """Nearest integers in [-127, 127]."""

    def __init__(self, scales: Floats) -> None:
        self.scales = scales
        self.code_bytes = len(scales)
        self._inverse = inverse(scales)

    def round(self, target: Floats) -> tuple[NDArray[np.uint8], NDArray[np.int8]]:
        """As Rounder says."""
        values = np.clip(np.rint(target * self._inverse), -INT8_LIMIT, INT8_LIMIT).astype(np.int8)
        return values.view(np.uint8), values


def trellis_scales(w: Floats, bits: int, kind: str = "trellis") -> Floats:
    """First scale of each row (m,) of w (m, n): the tables are trained for unit variance."""
    return stored_scales(np.sqrt(np.mean(np.square(w, dtype=np.float64), axis=1)) * leanto_kernels.unit(bits, kind))


def int8_scales(w: Floats) -> Floats:
    """Scale of each row (m,) of w (m, n) with the least squared error among shrunken ranges of its largest value."""
    best = np.full(len(w), np.inf)
    scales = np.zeros(len(w), np.float32)
    for shrink in _INT8_SHRINKS:
        candidate = stored_scales(np.abs(w).max(axis=1) * shrink / INT8_LIMIT)
        rounded = np.clip(np.rint(w * inverse(candidate)[:, None]), -INT8_LIMIT, INT8_LIMIT) * candidate[:, None]
        error = np.square(w - rounded).sum(axis=1)
        scales = np.where(error < best, candidate, scales)
        best = np.minimum(error, best)
    return scales


def inverse(scales: Floats) -> Floats:
    """1 / scales, and 0 where a scale counts as 0."""
    found: Floats = np.divide(1.0, scales, out=np.zeros_like(scales), where=scales > TINY)
    return found


def stored_scales(scales: NDArray[Any]) -> Floats:
    """`scales` (m,) as the artifact will hold them: rounded to float16 where all are normal numbers there, else float32."""
    wide = np.asarray(scales, np.float32)
    return wide.astype(np.float16).astype(np.float32) if fits_float16(wide) else wide


def fits_float16(scales: Floats) -> bool:
    """Whether float16 holds all of them with its full precision."""
    positive = np.abs(scales[scales != 0])
    limits = np.finfo(np.float16)
    return bool(positive.size == 0 or (positive.min() >= limits.tiny and positive.max() <= limits.max))
