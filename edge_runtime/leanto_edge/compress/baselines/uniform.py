"""Plain uniform grids: round to nearest (rtn), and GPTQ (arXiv 2210.17323), which feeds each column's error to the later ones.

A group of columns of one row shares a float16 step and an integer zero point. Knows nothing of codebooks and rotations.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from leanto_edge.compress.baselines.approximation import Approximation

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]

GROUP = 128  # columns
DAMPING = 0.01  # of the Hessian's mean diagonal


def rtn(w: Floats, bits: int) -> Approximation:
    """Each entry of w (m, n) at the nearest point of its group's grid."""
    found = np.empty_like(w)
    for start in range(0, w.shape[1], GROUP):
        group = w[:, start : start + GROUP]
        found[:, start : start + GROUP] = _round(group, *_grid(group, bits), bits)
    return Approximation(found, _stored_bits(w, bits))


def gptq(w: Floats, h: Doubles, bits: int) -> Approximation:
    """The same grids (those of the original weights), columns in the order of the Hessian's diagonal, largest first."""
    order = np.argsort(-np.diag(h), kind="stable")
    damped = h + (DAMPING * float(np.mean(np.diag(h))) or 1.0) * np.eye(len(h))
    upper = np.linalg.cholesky(np.linalg.inv(damped[np.ix_(order, order)])).T.astype(np.float32)
    grids = [_grid(w[:, start : start + GROUP], bits) for start in range(0, w.shape[1], GROUP)]
    rest, found = w[:, order].copy(), np.empty_like(w)
    for at, column in enumerate(order):
        steps, zeros = grids[column // GROUP]
        found[:, column] = _round(rest[:, at : at + 1], steps, zeros, bits)[:, 0]
        error = (rest[:, at] - found[:, column]) / upper[at, at]
        rest[:, at + 1 :] -= np.outer(error, upper[at, at + 1 :])
    return Approximation(found, _stored_bits(w, bits))


def _grid(group: Floats, bits: int) -> tuple[Floats, Floats]:
    """Steps and zero points (m, 1) that span each row of a group, 0 included."""
    low, high = np.minimum(group.min(axis=1), 0), np.maximum(group.max(axis=1), 0)
    steps = ((high - low) / (2**bits - 1)).astype(np.float16).astype(np.float32)
    steps = np.where(steps > 0, steps, np.float32(1))
    return steps[:, None], np.clip(np.rint(-low / steps), 0, 2**bits - 1)[:, None]


def _round(w: Floats, steps: Floats, zeros: Floats, bits: int) -> Floats:
    found: Floats = (np.clip(np.rint(w / steps) + zeros, 0, 2**bits - 1) - zeros) * steps
    return found


def _stored_bits(w: Floats, bits: int) -> float:
    groups = -(-w.shape[1] // GROUP)
    return float(bits * w.size + groups * len(w) * (16 + bits))
