"""What an observer's record of sizes and times tells about a topic: features, cross-validated classifiers, and their AUC.

Knows nothing of nodes or sockets.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.observer import Message

FIRST = 40
FOLDS = 5
MOMENTS_MS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 20, 25, 30, 40, 50, 80, 120, 200, 300, 500, 800, 1200, 2000)
QUANTILES = (0, 0.1, 0.25, 0.5, 0.75, 0.9, 1)

Matrix = NDArray[np.float64]
Labels = NDArray[np.int64]


def features(trace: Sequence[Message]) -> list[float]:
    """Counts, bytes and times in all; each of the first messages from the node; quantiles; bytes received by certain moments."""
    start = trace[0].at_s
    up = [float(one.bytes_) for one in trace if one.up]
    sizes = np.array([one.bytes_ for one in trace if not one.up], np.float64)
    times = np.array([one.at_s - start for one in trace if not one.up]) * 1000
    gaps = np.diff(times, prepend=0.0)
    totals = [len(up), sum(up), len(sizes), sizes.sum(), times[0], times[-1], gaps.std(), (gaps[1:] if len(gaps) > 1 else gaps).std()]
    received = [sizes[times <= moment].sum() for moment in MOMENTS_MS]
    shape = [*np.quantile(sizes, QUANTILES), *np.quantile(gaps, QUANTILES)]
    return [*totals, *_first(np.array(up), 4), *_first(sizes, FIRST), *_first(gaps, FIRST), *shape, *received]


def topic_auc(x: Matrix, topics: Labels, replicates: int) -> dict[str, float]:
    """One topic against the rest, averaged over topics, for two classifiers; predictions are of traces that they were not fitted to.

    `auc` is of the better one, with a 95 % interval over redrawn traces (each topic's own).
    """
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=0)
    contenders = {
        "logistic": make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=300)),
        "boosting": HistGradientBoostingClassifier(max_iter=60, learning_rate=0.1, max_leaf_nodes=15, random_state=0),
    }
    found = {name: cross_val_predict(model, x, topics, cv=folds, method="predict_proba") for name, model in contenders.items()}
    aucs = {name: _auc(topics, p) for name, p in found.items()}
    best = found[max(aucs, key=lambda name: aucs[name])]
    random, members = np.random.default_rng(0), [np.flatnonzero(topics == topic) for topic in np.unique(topics)]
    drawn = []
    for _ in range(replicates):
        chosen = np.concatenate([random.choice(rows, len(rows)) for rows in members])
        drawn.append(_auc(topics[chosen], best[chosen]))
    low, high = np.quantile(drawn, (0.025, 0.975))
    accuracy = float((best.argmax(1) == topics).mean())
    return {"auc": max(aucs.values()), "low": float(low), "high": float(high), **aucs, "accuracy": accuracy}


def paired_auc(first: Sequence[float], second: Sequence[float], replicates: int = 1000) -> dict[str, float]:
    """P(one of `first` < one of `second`), ties half, with its 95 % interval over redrawn pairs."""
    a, b = np.array(first), np.array(second)
    random = np.random.default_rng(0)
    chosen = [random.integers(0, len(a), len(a)) for _ in range(replicates)]
    low, high = np.quantile([_less(a[rows], b[rows]) for rows in chosen], (0.025, 0.975))
    return {"auc": _less(a, b), "low": float(low), "high": float(high)}


def _auc(topics: Labels, p: Matrix) -> float:
    return float(roc_auc_score(topics, p, multi_class="ovr", average="macro"))


def _less(a: Matrix, b: Matrix) -> float:
    return float(roc_auc_score(np.repeat([1, 0], [len(a), len(b)]), -np.concatenate([a, b])))


def _first(values: Matrix, n: int) -> list[float]:
    return [*values[:n], *[-1.0] * (n - len(values))]
