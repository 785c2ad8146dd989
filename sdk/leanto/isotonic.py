"""Isotonic regression: the second half of calibration, which makes a score that ranks well also mean what it says. NumPy only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]
LEAST = 1e-9  # of a score between 0 and 1: knots nearer to the ends would make a slope without a value


def fit_isotonic(p: Vector, right: NDArray[np.bool_]) -> dict[str, list[float]]:
    """The rising curve nearest to the labels, by pooling adjacent violators (Ayer et al., 1955), as knots x (k,), y (k,).

    A knot stands at the middle of its block, and (0, 0) and (1, 1) close the curve: between knots the order of scores is kept, so no
    ties come about that a threshold could not tell apart.
    """
    order = np.argsort(p, kind="stable")
    blocks: list[tuple[float, float, int]] = []  # mean score, mean label, size
    for x, y in zip(p[order].tolist(), right[order].astype(float).tolist(), strict=True):
        block = (x, y, 1)
        while blocks and blocks[-1][1] >= block[1]:
            x0, y0, n0 = blocks.pop()
            x1, y1, n1 = block
            block = ((n0 * x0 + n1 * x1) / (n0 + n1), (n0 * y0 + n1 * y1) / (n0 + n1), n0 + n1)
        blocks.append(block)
    edge = 0.5 / max(1, len(p))  # so few labels make nobody sure
    inner = [min(max(x, LEAST), 1 - LEAST) for x, _, _ in blocks]
    return {"x": [0.0, *inner, 1.0], "y": [0.0, *(min(max(y, edge), 1 - edge) for _, y, _ in blocks), 1.0]}


def apply_isotonic(knots: Mapping[str, Any], p: Any) -> Any:
    """`p` on the curve, piecewise linear."""
    return np.clip(np.interp(p, knots["x"], knots["y"]), 0.0, 1.0)
