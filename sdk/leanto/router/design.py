"""The features of many prompts as one sparse matrix, and ridge regression on it by conjugate gradients. NumPy alone.

What is learnt of the features themselves (means, scales, document frequencies) is learnt anew from the rows of each fit, so nothing of
the rows left out is in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from leanto.router.features import BUCKETS, STRUCTURE, features
from leanto.router.model import LIMIT

Vector = NDArray[np.float64]
Indices = NDArray[np.int64]
TOLERANCE = 1e-3  # of the residual: tighter changes no ranking
STEPS = 200


class Design:
    """Structure and terms of `prompts`, read once for all fits."""

    def __init__(self, prompts: Sequence[str]) -> None:
        read = [features(prompt) for prompt in prompts]
        self.structure = np.array([form for form, _ in read], np.float32).reshape(len(prompts), len(STRUCTURE))
        self.terms = [found for _, found in read]

    def fit(self, rows: Indices, target: Vector, structure_penalty: float, term_penalty: float) -> Ridge:
        """Ridge regression of target[rows]: ½‖Xθ − y‖² + ½ Σ penalty·θ² on standardised structure and tf-idf of unit length."""
        chosen = self.structure[rows]
        frequency = np.bincount(np.concatenate([self.terms[row] for row in rows]), minlength=BUCKETS)
        idf = np.where(frequency > 1, np.log((1 + len(rows)) / (1 + frequency)) + 1, 0.0)
        scaling = Scaling(chosen.mean(0, np.float64), np.maximum(chosen.std(0, np.float64), 1e-3), idf)
        x = Rows(self, rows, scaling, structure_penalty**-0.5, term_penalty**-0.5)
        mean = float(target[rows].mean())
        theta = _solve(x, target[rows] - mean)
        form, words, constant = np.split(theta, (len(STRUCTURE), len(theta) - 1))
        return Ridge(self, scaling, structure_penalty**-0.5 * form, term_penalty**-0.5 * words, mean + float(constant[0]))


@dataclass(frozen=True, slots=True, eq=False)
class Scaling:
    """What a fit learns of the features: mean and scale (len(STRUCTURE),) float64, inverse document frequency (BUCKETS,) float64."""

    mean: Vector
    scale: Vector
    idf: Vector


class Rows:
    """A matrix (rows, len(STRUCTURE) + BUCKETS + 1), scaled, with a constant last; only its products are ever made."""

    def __init__(self, design: Design, rows: Indices, scaling: Scaling, form: float = 1.0, words: float = 1.0) -> None:
        self.form = form * ((design.structure[rows] - scaling.mean) / scaling.scale).clip(-LIMIT, LIMIT)
        bucket = np.concatenate([design.terms[row] for row in rows]) if len(rows) else np.empty(0, np.int64)
        row = np.repeat(np.arange(len(rows)), [len(design.terms[i]) for i in rows])
        known = scaling.idf[bucket] > 0
        self.bucket, self.row = bucket[known], row[known]
        idf = scaling.idf[self.bucket]
        self.value = words * idf / np.sqrt(np.bincount(self.row, idf**2, len(rows)))[self.row]

    def times(self, theta: Vector) -> Vector:
        """X θ: (columns,) → (rows,)."""
        form, words, constant = np.split(theta, (len(STRUCTURE), len(theta) - 1))
        return self.form @ form + np.bincount(self.row, self.value * words[self.bucket], len(self.form)) + constant

    def transposed_times(self, y: Vector) -> Vector:
        """Xᵀ y: (rows,) → (columns,)."""
        return np.concatenate((y @ self.form, np.bincount(self.bucket, self.value * y[self.row], BUCKETS), [y.sum()]))


@dataclass(frozen=True, slots=True, eq=False)
class Ridge:
    """A fitted regression; weights are those of the standardised features."""

    design: Design
    scaling: Scaling
    structure_weight: Vector
    term_weight: Vector
    bias: float

    def predict(self, rows: Indices) -> Vector:
        """The target of other rows of the same design."""
        return Rows(self.design, rows, self.scaling).times(np.concatenate((self.structure_weight, self.term_weight, [self.bias])))


def _solve(x: Rows, y: Vector) -> Vector:
    """θ of (XᵀX + I) θ = Xᵀ y by conjugate gradients (Hestenes and Stiefel, 1952); X is already divided by the root of its penalties."""
    residual = x.transposed_times(y)
    theta, direction = np.zeros(len(residual)), residual
    size = first = float(residual @ residual)
    for _ in range(STEPS):
        if size <= TOLERANCE**2 * first:
            break
        image = x.transposed_times(x.times(direction)) + direction
        step = size / float(direction @ image)
        theta, residual = theta + step * direction, residual - step * image
        size, before = float(residual @ residual), size
        direction = residual + size / before * direction
    return theta
