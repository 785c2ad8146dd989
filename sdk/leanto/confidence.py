"""From token evidence to a calibrated probability that the local answer is right. NumPy only.

Quantiles, not means alone: a mean over a long answer hides the one token where the model guessed (Gupta et al., ICLR 2024).
Knows nothing of models or policies; a confidence model is plain JSON, kept in an artifact's `leanto.json` per task.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from leanto.isotonic import apply_isotonic, fit_isotonic
from leanto.local.low_logprob import LowLogprob

Vector = NDArray[np.float64]
FOLDS = 5
ITERATIONS = 50
STREAM_LOSS = 0.01  # of the right answers may be given up before their end


class Evidence(Protocol):
    """What a generated token says of itself, in nats: see leanto_edge.Token."""

    @property
    def logprob(self) -> float:
        """Of the chosen token, over the full vocabulary."""
        ...

    @property
    def margin(self) -> float:
        """Over the best other token."""
        ...

    @property
    def entropy(self) -> float:
        """Of the full distribution."""
        ...


FEATURES = (
    "log_n",
    "mean_logprob",
    "min_logprob",
    "q10_logprob",
    "median_logprob",
    "first_logprob",
    "min_margin",
    "q10_margin",
    "max_entropy",
    "mean_entropy",
)


def features(tokens: Sequence[Evidence]) -> Vector:
    """The vector (len(FEATURES),) float64 for one answer. Raises ValueError for an answer without tokens."""
    if not tokens:
        raise ValueError("an answer without tokens has no evidence")
    logprob = np.array([token.logprob for token in tokens], np.float64)
    margin = np.array([token.margin for token in tokens], np.float64)
    entropy = np.array([token.entropy for token in tokens], np.float64)
    ordered = np.sort(logprob)
    return np.array(
        [
            math.log(len(tokens)),
            logprob.mean(),
            logprob.min(),
            quantile(ordered, 0.1),
            quantile(ordered, 0.5),
            logprob[0],
            margin.min(),
            quantile(np.sort(margin), 0.1),
            entropy.max(),
            entropy.mean(),
        ]
    )


def quantile(ordered: Vector, q: float) -> float:
    """What np.quantile gives for values in ascending order, to the last bit; for a handful of them it takes 50 µs, this one 1."""
    at = (len(ordered) - 1) * q
    below = int(at)
    low, high, share = float(ordered[below]), float(ordered[min(below + 1, len(ordered) - 1)]), at - below
    return low + (high - low) * share if share < 0.5 else high - (high - low) * (1 - share)


def lowest_in_stream(tokens: Sequence[Evidence]) -> float:
    """The lowest that LowLogprob is at any token of an answer."""
    low = LowLogprob()
    return min((low.add(token.logprob) for token in tokens), default=0.0)


def predict_in_stream(model: Mapping[str, Any], tokens: Sequence[Evidence]) -> float:
    """P(right) as `predict` has it, or 0 for an answer that would have been given up before its end."""
    return 0.0 if lowest_in_stream(tokens) < model.get("stream_floor", -math.inf) else predict(model, tokens)


def mean_probability(logprobs: Sequence[float]) -> float:
    """Geometric mean of token probabilities in [0, 1]: the uncalibrated score where a task has no confidence model."""
    return math.exp(min(0.0, math.fsum(logprobs) / len(logprobs))) if logprobs else 0.0


def predict(model: Mapping[str, Any], tokens: Sequence[Evidence]) -> float:
    """P(right) in (0, 1) by a model that `fit` made. Raises ValueError if it was made for other features."""
    if tuple(model["features"]) != FEATURES:
        raise ValueError(f"the confidence model was made for the features {', '.join(model['features'])}; calibrate again")
    scaled = (features(tokens) - np.asarray(model["mean"])) / np.asarray(model["scale"])
    p = float(sigmoid(scaled @ np.asarray(model["weights"]) + model["bias"]))
    return float(apply_isotonic(model["isotonic"], p)) if "isotonic" in model else p


def fit(rows: Iterable[tuple[Sequence[Evidence], bool]], *, precision: float = 0.95, ridge: float = 1.0) -> dict[str, Any]:
    """A confidence model from (tokens of an answer, was it right) pairs: logistic regression by IRLS, then isotonic; deterministic.

    `threshold` is the lowest at which answers kept are right with frequency `precision`. It, `auroc` and `ece` (equal-mass bins)
    come from predictions out of fold, so they say what unseen answers may expect. `stream_floor` is the low logprob (LowLogprob) that
    all but 1 % of the right answers stay above from beginning to end. Raises ValueError below 20 rows or with one class.
    """
    pairs = list(rows)
    x = np.array([features(tokens) for tokens, _ in pairs]).reshape(len(pairs), len(FEATURES))
    y = np.array([right for _, right in pairs], np.float64)
    if len(pairs) < 4 * FOLDS or not 0 < y.sum() < len(y):
        raise ValueError(f"{len(pairs)} rows with {int(y.sum())} right: calibration needs at least {4 * FOLDS} rows, right and wrong ones")
    mean, scale = x.mean(0), np.maximum(x.std(0), 1e-9)
    z = (x - mean) / scale
    unseen = np.empty(len(y))
    fold = np.arange(len(y)) % FOLDS
    for k in range(FOLDS):
        weights, bias = logistic(z[fold != k], y[fold != k], ridge)
        unseen[fold == k] = sigmoid(z[fold == k] @ weights + bias)
    weights, bias = logistic(z, y, ridge)
    knots, ranked = fit_isotonic(unseen, y > 0), unseen.copy()
    for k in range(FOLDS):
        unseen[fold == k] = apply_isotonic(fit_isotonic(ranked[fold != k], y[fold != k] > 0), ranked[fold == k])
    return {
        "features": list(FEATURES),
        "mean": mean.tolist(),
        "scale": scale.tolist(),
        "weights": weights.tolist(),
        "bias": bias,
        "isotonic": knots,
        "stream_floor": float(np.quantile([lowest_in_stream(tokens) for tokens, right in pairs if right], STREAM_LOSS)),
        "threshold": choose_threshold(unseen, y > 0, precision),
        "rows": len(y),
        "auroc": auroc(unseen, y > 0),
        "ece": expected_calibration_error(unseen, y > 0),
    }


def choose_threshold(p: Vector, right: NDArray[np.bool_], precision: float) -> float:
    """The lowest threshold t such that the answers with p ≥ t are right with frequency ≥ `precision`; 1.0 if there is none."""
    order = np.argsort(-p, kind="stable")
    ranked, kept_right = p[order], np.cumsum(right[order])
    whole_ties = np.append(ranked[:-1] != ranked[1:], True)  # equal scores are kept or left together
    good = np.flatnonzero(whole_ties & (kept_right >= precision * np.arange(1, len(p) + 1)))
    return float(ranked[good[-1]]) if len(good) else 1.0


def auroc(p: Vector, right: NDArray[np.bool_]) -> float:
    """P(a right answer scores above a wrong one), ties half; 0.5 where one class is missing."""
    _, inverse, counts = np.unique(p, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    positives, negatives = int(right.sum()), int((~right).sum())
    if not positives or not negatives:
        return 0.5
    return float((ranks[right].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def expected_calibration_error(p: Vector, right: NDArray[np.bool_], bins: int = 10) -> float:
    """Mean |confidence − accuracy| over equal-mass bins (ECE), weighted by their size."""
    order = np.argsort(p, kind="stable")
    groups = [group for group in np.array_split(order, bins) if len(group)]
    return float(sum(len(group) * abs(p[group].mean() - right[group].mean()) for group in groups) / len(p))


def sigmoid(z: Any) -> Any:
    """1 / (1 + exp(−z)), without overflow."""
    return 0.5 * (1.0 + np.tanh(0.5 * np.asarray(z)))


def logistic(z: Vector, y: Vector, ridge: float) -> tuple[Vector, float]:
    """Weights (d,) and bias minimizing the logistic loss plus ridge/2·|w|², by Newton steps halved until they descend."""
    design = np.column_stack([z, np.ones(len(z))])
    penalty = np.full(design.shape[1], ridge)
    penalty[-1] = 1e-6  # the bias is free; a trace of ridge keeps the system solvable
    beta = np.zeros(design.shape[1])
    for _ in range(ITERATIONS):
        p = sigmoid(design @ beta)
        gradient = design.T @ (p - y) + penalty * beta
        curvature = (design * (p * (1 - p))[:, None]).T @ design + np.diag(penalty)
        step = np.linalg.solve(curvature, gradient)
        size = 1.0
        while _loss(design, y, penalty, beta - size * step) > _loss(design, y, penalty, beta) and size > 1e-6:
            size /= 2
        beta = beta - size * step
        if np.abs(size * step).max() < 1e-9:
            break
    return beta[:-1], float(beta[-1])


def _loss(design: Vector, y: Vector, penalty: Vector, beta: Vector) -> float:
    logits = design @ beta
    return float(np.logaddexp(0, logits).sum() - y @ logits + 0.5 * (penalty * beta**2).sum())
