"""What the pictures show, as numbers: who keeps how much at which quality, does a confidence mean what it says, how is a cost spread.

Pure functions of scores, flags and values; knows nothing of drawing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from leanto.certificates.selective_risk import Flags, Vector, upper_bound

BINS = 10
FEWEST = 10  # answers in a bin, of which a share says something
MOST_POINTS = 200  # of a drawn curve


@dataclass(frozen=True, slots=True)
class Deferral:
    """Points (share kept local, quality): quality is the share of all answers that are not worse than the cloud's. `random` keeps
    any, `oracle` knows which are worse."""

    score: list[tuple[float, float]]
    random: list[tuple[float, float]]
    oracle: list[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Bin:
    """`count` answers with a mean confidence, the share of them that is right, and its exact 95 % interval."""

    confidence: float
    right: float
    low: float
    high: float
    count: int


def deferral(score: Vector, right: Flags) -> Deferral:
    """The curve of a score (n,) over outcomes (n,), the surest kept first; equal scores are kept or sent together."""
    n, accuracy = len(right), float(right.mean())
    order = np.argsort(-score, kind="stable")
    wrong = np.cumsum(~right[order])
    ends = np.flatnonzero(np.append(np.diff(score[order]) != 0, True))
    chosen = ends[np.unique(np.linspace(0, len(ends) - 1, min(len(ends), MOST_POINTS)).astype(int))]
    found = [(0.0, 1.0)] + [((int(end) + 1) / n, 1 - float(wrong[end]) / n) for end in chosen]
    return Deferral(found, [(0.0, 1.0), (1.0, accuracy)], [(0.0, 1.0), (accuracy, 1.0), (1.0, accuracy)])


def at_threshold(score: Vector, right: Flags, threshold: float) -> tuple[float, float]:
    """The point of the curve that a threshold chooses."""
    kept = score >= threshold
    return float(kept.mean()), 1 - float((kept & ~right).mean())


def reliability(p: Vector, right: Flags) -> list[Bin]:
    """Answers in groups of equal size by confidence, as leanto.confidence measures the ECE; fewer groups where there are few answers."""
    order = np.argsort(p, kind="stable")
    return [_bin(p[group], right[group]) for group in np.array_split(order, max(1, min(BINS, len(p) // FEWEST)))]


def distribution(values: list[float]) -> list[tuple[float, float]]:
    """Points (value, share of values up to it) of the cumulative distribution."""
    ordered = np.sort(np.asarray(values, np.float64))
    ranks = np.unique(np.linspace(0, len(ordered) - 1, min(len(ordered), MOST_POINTS)).astype(int))
    return [(float(ordered[rank]), (int(rank) + 1) / len(ordered)) for rank in ranks]


def spread(values: list[float]) -> tuple[float, float, float, float, float]:
    """The 10th, 25th, 50th, 75th and 90th percentile."""
    low, lower, middle, upper, high = np.quantile(np.asarray(values, np.float64), (0.1, 0.25, 0.5, 0.75, 0.9)).tolist()
    return low, lower, middle, upper, high


def _bin(p: Vector, right: Flags) -> Bin:
    n, good = len(right), int(right.sum())
    return Bin(float(p.mean()), good / n, 1 - upper_bound(n - good, n, 0.025), upper_bound(good, n, 0.025), n)
