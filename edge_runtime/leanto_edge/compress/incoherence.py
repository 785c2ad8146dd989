"""Incoherence processing: seeded rotations that spread the outliers of a weight matrix and of its Hessian over all entries.

W' = R_out W R_inᵀ and H' = R_in H R_inᵀ, with the engine's own rotation (leanto_kernels.rotate). Knows nothing of codes.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

import leanto_kernels
from leanto_edge.artifact.layout import SEED_LIMIT
from leanto_edge.artifact.weight import restore_weight

__all__ = ["input_directions", "restore_weight", "rotate_hessian", "rotate_weight", "rotation_seed"]

Floats = NDArray[np.float32]


def rotation_seed(seed: int, name: str, dimension: int) -> int:
    """A seed for the rotation that belongs to `name`, in [1, 2^63); 0 (no rotation) if the kernels cannot rotate `dimension`."""
    if not _rotatable(dimension):
        return 0
    digest = hashlib.sha256(f"{seed}:{name}".encode()).digest()
    return int.from_bytes(digest[:8], "little") % (SEED_LIMIT - 1) + 1


def rotate_weight(w: Floats, in_seed: int, out_seed: int) -> Floats:
    """R_out W R_inᵀ for w (m, n)."""
    w = leanto_kernels.rotate(np.ascontiguousarray(w), in_seed) if in_seed else w
    return np.ascontiguousarray(leanto_kernels.rotate(np.ascontiguousarray(w.T), out_seed).T) if out_seed else w


def input_directions(channels: NDArray[np.intp], cols: int, in_seed: int) -> Floats:
    """Where the unit vectors of some input channels (k,) lie after the rotation, in rows (k, cols)."""
    units = np.zeros((len(channels), cols), np.float32)
    units[np.arange(len(channels)), channels] = 1
    return leanto_kernels.rotate(units, in_seed) if in_seed and len(units) else units


def rotate_hessian(h: NDArray[np.float64], in_seed: int) -> NDArray[np.float64]:
    """R_in H R_inᵀ for h (n, n), scaled to a mean diagonal of 1 first (the kernels rotate in float32)."""
    scale = float(np.trace(h)) / len(h) or 1.0
    if not in_seed:
        return h / scale
    once = leanto_kernels.rotate((h / scale).astype(np.float32), in_seed)
    both = leanto_kernels.rotate(np.ascontiguousarray(once.T), in_seed).astype(np.float64)
    return (both + both.T) / 2


def _rotatable(dimension: int) -> bool:
    try:
        leanto_kernels.rotate(np.zeros((1, dimension), np.float32), 1)
    except ValueError:
        return False
    return True
