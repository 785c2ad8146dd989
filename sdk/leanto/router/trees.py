"""Boosted oblivious trees on the structure of prompts: what a linear score cannot say (long *and* without numbers). NumPy alone.

All nodes of one depth ask the same question, so a tree is DEPTH comparisons and a table; each tree chooses among a few random features.
Deterministic. Knows nothing of words, nor of what the target means.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]
Matrix = NDArray[np.float32]
TREES, DEPTH = 100, 4
RATE = 0.08
SHRINKAGE = 60.0  # rows of no effect that every leaf is averaged with
TRIED = 20  # features that a tree may ask for
BINS = 32
_PLACES = 1 << np.arange(DEPTH)
_ALL = np.arange(TREES)


@dataclass(frozen=True, slots=True, eq=False)
class Trees:
    """Leaf (bits of `x[feature] > threshold`, the first comparison lowest) of each tree, summed over trees."""

    feature: NDArray[np.int32]  # (TREES, DEPTH)
    threshold: Matrix  # (TREES, DEPTH)
    value: Matrix  # (TREES, 2**DEPTH)

    def predict(self, x: Matrix) -> float:
        """Of one row (features,) float32."""
        return float(self.value[_ALL, (x[self.feature] > self.threshold) @ _PLACES].sum())


def boost(x: Matrix, target: Vector) -> Trees:
    """Trees for x (n, features) and a target (n,), by least squares (Friedman, 2001); the mean is shared out among them."""
    random = np.random.default_rng(0)
    edges = [np.unique(np.quantile(column, np.linspace(0, 1, BINS + 1)[1:-1], method="lower")) for column in x.T]
    bins = np.stack([np.searchsorted(edge, column) for edge, column in zip(edges, x.T, strict=True)], 1)  # b: at most edge[b]
    residual, tried = target - target.mean(), min(TRIED, x.shape[1])
    feature, threshold = np.zeros((TREES, DEPTH), np.int32), np.zeros((TREES, DEPTH), np.float32)
    value = np.zeros((TREES, 1 << DEPTH), np.float32)
    for tree in range(TREES):
        chosen = random.choice(x.shape[1], tried, replace=False)
        leaf = np.zeros(len(x), np.int64)
        for depth in range(DEPTH):
            best, edge = _split(bins[:, chosen], residual, leaf, 1 << depth)
            feature[tree, depth] = chosen[best]
            threshold[tree, depth] = edges[chosen[best]][min(edge, len(edges[chosen[best]]) - 1)]
            leaf += (x[:, feature[tree, depth]] > threshold[tree, depth]) << depth
        count = np.bincount(leaf, minlength=1 << DEPTH)
        value[tree] = RATE * np.bincount(leaf, residual, 1 << DEPTH) / (count + SHRINKAGE)
        residual -= value[tree][leaf]
    return Trees(feature, threshold, value + np.float32(target.mean() / TREES))


def _split(bins: NDArray[np.int64], residual: Vector, leaf: NDArray[np.int64], leaves: int) -> tuple[int, int]:
    """The feature and the last bin of its lower side that leave the least squared error when every leaf is split there."""
    tried = bins.shape[1]
    cell = (bins + BINS * np.arange(tried) + (BINS * tried * leaf)[:, None]).ravel()
    shape = (leaves, tried, BINS)
    total = np.bincount(cell, np.repeat(residual, tried), leaves * tried * BINS).reshape(shape).cumsum(2)
    count = np.bincount(cell, minlength=leaves * tried * BINS).reshape(shape).cumsum(2)
    above, rest = total[:, :, -1:] - total, count[:, :, -1:] - count
    explained = (total**2 / (count + SHRINKAGE) + above**2 / (rest + SHRINKAGE)).sum(0)
    best, edge = np.unravel_index(int(explained[:, :-1].argmax()), (tried, BINS - 1))
    return int(best), int(edge)
