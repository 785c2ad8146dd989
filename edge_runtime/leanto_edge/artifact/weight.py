"""The weight that the tensors of one matrix stand for, as plain numbers: R_outᵀ (Q + L R) R_in.

Knows the format's tensors (docs/format.md), not how they were found. NumPy and the kernels, no torch.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

import leanto_kernels
from leanto_edge.artifact.factors import dense_factors
from leanto_edge.artifact.layout import MatrixSpec
from leanto_edge.artifact.tensor_file import Array

Floats = NDArray[np.float32]


def dense_weight(spec: MatrixSpec, tensors: Mapping[str, Array]) -> Floats:
    """The weight (m, n) float32 from the tensors of one matrix, by suffix (codes, scales, ...)."""
    if spec.kind == "dense":
        return tensors["weight"].astype(np.float32)
    return restore_weight(rotated_weight(spec, tensors), spec.in_seed, spec.out_seed)


def rotated_weight(spec: MatrixSpec, tensors: Mapping[str, Array]) -> Floats:
    """Q + L R (m, n), in rotated space."""
    left, right = dense_factors(spec, tensors)
    product: Floats = left @ right
    return _decoded(spec, tensors) + product


def restore_weight(w: Floats, in_seed: int, out_seed: int) -> Floats:
    """R_outᵀ W R_in for w (m, n)."""
    w = leanto_kernels.rotate_transpose(np.ascontiguousarray(w), in_seed) if in_seed else w
    return np.ascontiguousarray(leanto_kernels.rotate_transpose(np.ascontiguousarray(w.T), out_seed).T) if out_seed else w


def _decoded(spec: MatrixSpec, tensors: Mapping[str, Array]) -> Floats:
    """Q (m, n)."""
    values = tensors["codes"]
    if spec.kind != "int8":
        codes, tables = np.ascontiguousarray(values, np.uint8), np.ascontiguousarray(tensors["tables"], np.int8)
        values = leanto_kernels.decode_trellis(codes, tables, spec.bits, spec.rows, kind=spec.kind)
    scales: Floats = tensors["scales"].astype(np.float32)
    return values[: spec.rows, : spec.cols].astype(np.float32) * scales[:, None]
