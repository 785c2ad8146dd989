"""Which threshold keeps the risk of local answers below alpha, from n labelled pairs, with an exact guarantee. NumPy only.

Pure functions of (score, worse) pairs: the score is the confidence in a local answer, `worse` says that it is a case of what is to be
rare: other than the cloud's, or worse, or wrong (see `agreement.EVENTS`).
Knows nothing of models, of certificates as files, or of where the labels come from.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]
Flags = NDArray[np.bool_]

LOOKAHEAD = 0.1  # share of delta spent on finding where to begin
WISHED = 0.85  # share of the score's own best that `labels_needed` aims at


@dataclass(frozen=True, slots=True)
class Certified:
    """Answers with score ≥ `threshold` are worse than the cloud's with probability ≤ `alpha`, at confidence 1 − `delta`.

    Of `n` pairs, `kept` lie above the threshold and `worse` of those are; `bound` is their Clopper–Pearson upper bound, at most `alpha`.
    """

    alpha: float
    delta: float
    n: int
    threshold: float
    kept: int
    worse: int
    bound: float

    @property
    def kept_share(self) -> float:
        """Of all answers, as the pairs have it."""
        return self.kept / self.n


@dataclass(frozen=True, slots=True)
class Feasibility:
    """What can be hoped for before anything is certified.

    `risk` is the share of all local answers that are worse. Not even an oracle that sees which are could keep more than `oracle_share`
    local; this score would keep `score_share` if the pairs were all there is. `labels_needed` are those with which certifying should
    keep 85 % of that; None where the score separates nothing.
    """

    n: int
    alpha: float
    delta: float
    risk: float
    risk_bounds: tuple[float, float]
    oracle_share: float
    score_share: float
    labels_needed: int | None


def feasibility(scores: Sequence[float] | Vector, worse: Sequence[bool] | Flags, alpha: float, delta: float) -> Feasibility:
    """The report that comes first. An oracle keeps every answer that is not worse, and of the others as many as alpha allows:
    it must hand off (mu − alpha)/(1 − alpha) of all, where mu is the risk of keeping all. Raises ValueError as `certify` does.
    """
    ranked, flags = _ranked(scores, worse, alpha, delta)
    n, losses = len(flags), int(flags.sum())
    good = np.flatnonzero(_ends(ranked) & (np.cumsum(flags) <= alpha * np.arange(1, n + 1)))
    best = int(good[-1]) + 1 if len(good) else 0
    aim = math.ceil(WISHED * best)
    needed = _labels_needed(aim / n, float(flags[:aim].mean()), alpha, delta) if aim else None
    bounds = (1 - upper_bound(n - losses, n, delta / 2), upper_bound(losses, n, delta / 2))
    return Feasibility(n, alpha, delta, losses / n, bounds, min(1.0, (n - losses) / n / (1 - alpha)), best / n, needed)


def certify(scores: Sequence[float] | Vector, worse: Sequence[bool] | Flags, alpha: float, delta: float) -> Certified | None:
    """The lowest threshold t that can be certified for R(t) = P(worse | score ≥ t) ≤ alpha, or None.

    P(R(threshold) > alpha) ≤ delta over the draw of the pairs, which must be independent draws of what will be served. Proof sketch,
    if R crosses alpha once (it does where a lower score never means a better answer): let m pairs score above the crossing. Given m,
    their losses are Binomial(m, alpha), and each longer prefix of the ranking has stochastically more than Binomial(k, alpha).
    (1) Prefixes of doubling sizes are tested at LOOKAHEAD·delta together (Bonferroni): one longer than m passes with at most that.
    (2) From the longest that passed, or from a fixed size, each next prefix is tested at (1 − LOOKAHEAD)·delta until one fails; to get
    past m, the test at m itself must be wrong. So the whole ranking is searched at the price of one test: fixed-sequence testing
    (Angelopoulos et al., Learn then Test, 2021) on ranks, each test the exact binomial one (Clopper & Pearson, 1934), and (1) spares it
    the steps where few pairs decide. Should R cross alpha c times, delta becomes at most c·delta. Equal scores stay together.
    Raises ValueError for scores outside [0, 1], NaN, labels that are not 0 or 1, unequal lengths, no pairs, or alpha, delta outside (0, 1).
    """
    ranked, flags = _ranked(scores, worse, alpha, delta)
    p = prefix_p_values(flags, alpha)
    n, enough = len(flags), least_pairs(alpha, delta)
    sizes = [enough << i for i in range(1, max(1, n // enough).bit_length()) if enough << i < n] + [n]
    ends = _ends(ranked)
    found = [k for k in sizes if ends[k - 1] and p[k - 1] <= LOOKAHEAD * delta / len(sizes)]
    start = max([min(3 * enough, n), *found])
    steps = np.flatnonzero(ends[start - 1 :]) + start
    failed = np.flatnonzero(p[steps - 1] > (1 - LOOKAHEAD) * delta)
    passed = steps[: failed[0]] if len(failed) else steps
    k = int(passed[-1]) if len(passed) else max(found, default=0)
    if not k:
        return None
    losses = int(flags[:k].sum())
    return Certified(alpha, delta, n, float(ranked[k - 1]), k, losses, upper_bound(losses, k, delta))


def least_pairs(alpha: float, delta: float) -> int:
    """The fewest kept answers, none of them worse, that certify anything."""
    return math.ceil(math.log(delta) / math.log1p(-alpha))


def upper_bound(losses: int, n: int, delta: float) -> float:
    """Clopper–Pearson: the largest p with P(Binomial(n, p) ≤ losses) ≥ delta, to 1e-9. Raises ValueError unless 0 ≤ losses ≤ n, n ≥ 1."""
    if not 0 <= losses <= n or n < 1 or not 0 < delta < 1:
        raise ValueError(f"{losses} of {n} at delta {delta}: expected 0 ≤ losses ≤ n, n ≥ 1 and 0 < delta < 1")
    if losses == n:
        return 1.0
    low, high = losses / n, 1.0
    while high - low > 1e-13:
        middle = (low + high) / 2
        low, high = (middle, high) if binomial_cdf(losses, n, middle) >= delta else (low, middle)
    return high


def binomial_cdf(k: int, n: int, p: float) -> float:
    """P(Binomial(n, p) ≤ k) for 0 < p < 1, summed in logarithms."""
    j = np.arange(min(k, n) + 1)
    factorials = _log_factorials(n)
    return min(1.0, math.fsum(np.exp(_log_pmf(j, np.full(len(j), n), p, factorials))))


def prefix_p_values(worse: Flags, alpha: float) -> Vector:
    """P(Binomial(k, alpha) ≤ losses among the first k) for k = 1 … n, (n,) float64, in one pass.

    P(B(k) ≤ l) = P(B(k−1) ≤ l) − alpha·P(B(k−1) = l), and a loss at k adds P(B(k) = l + 1).
    """
    n = len(worse)
    k = np.arange(n + 1)
    losses = np.concatenate([[0], np.cumsum(worse)])
    pmf = np.exp(_log_pmf(losses, k, alpha, _log_factorials(n)))
    return np.asarray(1.0 + np.cumsum(np.where(worse, pmf[1:], 0.0) - alpha * pmf[:-1]))


def _log_pmf(j: NDArray[np.int64], n: NDArray[np.int64], p: float, factorials: Vector) -> Vector:
    return np.asarray(factorials[n] - factorials[j] - factorials[n - j] + j * math.log(p) + (n - j) * math.log1p(-p))


@lru_cache(maxsize=4)
def _log_factorials(n: int) -> Vector:
    return np.array([math.lgamma(i + 1.0) for i in range(n + 1)])


def _ends(ranked: Vector) -> Flags:
    """Where a run of equal scores ends."""
    return np.append(ranked[:-1] != ranked[1:], True)


def _labels_needed(share: float, risk: float, alpha: float, delta: float, most: int = 1_000_000) -> int | None:
    """The fewest pairs of which `share` are kept, with `risk` among those, that certify alpha."""

    def enough(n: int) -> bool:
        kept = max(1, int(n * share))
        return binomial_cdf(math.ceil(kept * risk), kept, alpha) <= (1 - LOOKAHEAD) * delta

    high = 1
    while not enough(high):
        high *= 2
        if high > most:
            return None
    low = high // 2
    while high - low > max(1, high // 100):
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def _ranked(scores: Sequence[float] | Vector, worse: Sequence[bool] | Flags, alpha: float, delta: float) -> tuple[Vector, Flags]:
    """Scores from the highest down and their labels."""
    for name, value in (("alpha", alpha), ("delta", delta)):
        if not 0 < value < 1:
            raise ValueError(f"{name} {value}: must lie between 0 and 1")
    s, w = np.asarray(scores, np.float64), np.asarray(worse)
    if s.ndim != 1 or s.shape != w.shape or not len(s):
        raise ValueError(f"{s.size} scores and {w.size} labels: expected one label for each score, and at least one")
    if not np.all((s >= 0) & (s <= 1)):
        raise ValueError("a score is not a number from 0 to 1")
    if not np.all((w == 0) | (w == 1)):
        raise ValueError("a label is neither true nor false")
    order = np.argsort(-s, kind="stable")
    return s[order], w[order].astype(np.bool_)
