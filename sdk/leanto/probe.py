"""A linear probe of the hidden state behind a prompt: P(the local answer will be right), before its first token. NumPy only.

What a model knows of a question shows before it answers (Azaria & Mitchell, 2023; Kadavath et al., 2022). A probe is plain JSON and lies
in a confidence model as its `probe`. Knows nothing of models or policies.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leanto.confidence import FOLDS, STREAM_LOSS, auroc, logistic, sigmoid

RIDGES = (10.0, 100.0, 1000.0)


def fit_probe(states: Sequence[NDArray[np.float32]], right: Sequence[bool]) -> dict[str, Any]:
    """A probe from hidden states (n of (hidden_size,) float32) and whether the answers were right: ridge logistic regression.

    The ridge and `auroc` come from predictions out of fold. All but 1 % of the right answers lie above `floor`. Raises ValueError below
    20 rows or with one class.
    """
    x, y = np.asarray(states, np.float64), np.asarray(right, np.float64)
    if len(y) < 4 * FOLDS or not 0 < y.sum() < len(y):
        raise ValueError(f"{len(y)} rows with {int(y.sum())} right: a probe needs at least {4 * FOLDS} rows, right and wrong ones")
    mean, scale = x.mean(0), np.maximum(x.std(0), 1e-9)
    z, fold = (x - mean) / scale, np.arange(len(y)) % FOLDS
    tried = []
    for ridge in RIDGES:
        unseen = np.empty(len(y))
        for k in range(FOLDS):
            weights, bias = logistic(z[fold != k], y[fold != k], ridge)
            unseen[fold == k] = sigmoid(z[fold == k] @ weights + bias)
        tried.append((auroc(unseen, y > 0), ridge, unseen))
    score, ridge, unseen = max(tried, key=lambda one: one[0])
    weights, bias = logistic(z, y, ridge)
    return {
        "weights": (weights / scale).tolist(),
        "bias": bias - float(mean @ (weights / scale)),
        "floor": float(np.quantile(unseen[y > 0], STREAM_LOSS)),
        "auroc": score,
        "rows": len(y),
    }


def probe(model: Mapping[str, Any], state: NDArray[np.float32]) -> float:
    """P(the answer will be right) in (0, 1) by the hidden state (hidden_size,). Raises ValueError for one of another width."""
    weights = np.asarray(model["weights"], np.float64)
    if weights.shape != state.shape:
        raise ValueError(f"the probe is for a hidden state of {weights.size}, not {state.size}; calibrate again")
    return float(sigmoid(state @ weights + model["bias"]))
