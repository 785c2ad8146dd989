"""The low-rank factors of a matrix as plain numbers, from any of the three ways in which the format stores them.

Knows the format's tensors (docs/format.md, "model.safetensors"), not how they were found.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

import leanto_kernels
from leanto_edge.artifact.layout import MatrixSpec

Floats = NDArray[np.float32]


def dense_factors(spec: MatrixSpec, tensors: Mapping[str, NDArray[Any]]) -> tuple[Floats, Floats]:
    """L (m, r) and R (r, n) float32 from the tensors of one matrix, by suffix (left, right, left_scales, ...)."""
    if spec.rank == 0:
        return np.zeros((spec.rows, 0), np.float32), np.zeros((0, spec.cols), np.float32)
    if spec.factor_bits == 16:
        return tensors["left"].astype(np.float32), tensors["right"].astype(np.float32)
    left, right = (_scaled_rows(spec, tensors, side) for side in ("left", "right"))
    return np.ascontiguousarray(left[:, : spec.rows].T), np.ascontiguousarray(right[:, : spec.cols])


def _scaled_rows(spec: MatrixSpec, tensors: Mapping[str, NDArray[Any]], side: str) -> Floats:
    """One stored factor (r, padded length), each row times its scale."""
    values = tensors[side]
    if spec.factor_bits == 4:
        codes, tables = np.ascontiguousarray(values, np.uint8), np.ascontiguousarray(tensors["factor_tables"], np.int8)
        values = leanto_kernels.decode_trellis(codes, tables, 4, spec.rank)
    scales: Floats = tensors[f"{side}_scales"].astype(np.float32)
    return values.astype(np.float32) * scales[:, None]
