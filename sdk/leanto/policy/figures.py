"""What requests took and cost, summed over a log: times, energy, money, bytes, and the risk of what was kept on the edge.

Knows nothing of policies: it is told which route each request took. What nobody measured is None, never 0.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from leanto.policy.logged import Logged
from leanto.policy.verdict import CLOUD, LOCAL

CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Figures:
    """Of all replayed requests of a log under one policy. `risk` is the chance that an answer kept on the edge is wrong, by its
    calibrated confidence; None where nothing calibrated was kept. Its interval holds at 95 % for any number of answers, if they are like
    those that the confidence was fitted on: then it is off by no more than its expected calibration error. None where the log lacks that.

    `unanswered` is None where it hangs on times that nobody knows. `estimated` requests took another route than the log saw, or another
    time; of these, `unpriced` took a leg that no request of the task took, which leaves times and costs unknown. `joules` is None
    where a request was not metered. `unreplayable` requests are in no figure.
    """

    requests: int
    local_share: float
    p50_ms: float | None
    p95_ms: float | None
    joules: float | None
    usd: float | None
    bytes_sent: int | None
    risk: float | None
    risk_low: float | None
    risk_high: float | None
    unanswered: int | None
    estimated: int
    unpriced: int = 0
    unreplayable: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Course:
    """What becomes of a request: the legs that work on it, as in a Decision, whether an answer comes of it, and after how many ms, where
    it is a deadline that decides that."""

    legs: str
    answered: bool = True
    ms: float | None = None

    @property
    def route(self) -> str:
        """Who answers: the legs, or "none"."""
        return self.legs if self.answered else "none"


def taken(line: Logged) -> Course:
    """What became of the request of `line`."""
    return Course(line.route, line.answered and line.route != "none")


@dataclass(frozen=True, slots=True)
class Case:
    """One request on one course, by its route. `doubt` is 1 − confidence of a calibrated answer that was kept on the edge; `off` is the
    expected calibration error of the confidence in a finished answer, kept or not, 0 where there is none, None where it is not known."""

    route: str
    ms: float | None
    joules: float | None
    usd: float | None
    bytes_sent: float | None
    doubt: float | None
    off: float | None
    estimated: bool


class Costs:
    """Medians of what the same legs took other requests of a task. Where none took them: the sum of each leg alone; and of a cloud that
    none asked at once, what a hand-off took more than the edge alone."""

    def __init__(self, log: Iterable[Logged]) -> None:
        groups: dict[tuple[str, str], list[Logged]] = {}
        for line in log:
            if line.answered and line.route != "none":
                groups.setdefault((line.facts.task, line.route), []).append(line)
        self._medians = {legs: {name: _median(name, lines) for name in _COSTS} for legs, lines in groups.items()}

    def ms(self, task: str, legs: str) -> float | None:
        """How long those legs take; None where nobody knows."""
        return self._of("total_ms", task, legs)

    def case(self, line: Logged, course: Course) -> Case:
        """The request of `line` on `course`: as measured where it took that, else the sum of what its legs took others."""
        sure = line.confidence if line.calibrated else None
        doubt, off = (None, 0.0) if sure is None else (1.0 - sure if course.route == LOCAL else None, line.ece)
        if course.legs == line.route:
            done_ms = line.total_ms if course.ms is None else course.ms
            return Case(course.route, done_ms, line.energy_j, line.usd, line.bytes_sent, doubt, off, course.ms is not None)
        ms, joules, usd, sent = (self._of(name, line.facts.task, course.legs) for name in _COSTS)
        return Case(course.route, ms if course.ms is None else course.ms, joules, usd, sent, doubt, off, True)

    def _of(self, name: str, task: str, legs: str) -> float | None:
        if legs == "none":
            return 0.0
        if (task, legs) in self._medians:
            return self._medians[task, legs][name]
        if legs == CLOUD:
            more, less = (self._medians.get((task, other), {}).get(name) for other in (f"{LOCAL}→{CLOUD}", LOCAL))
            return None if more is None or less is None else max(0.0, more - less)
        return _total(self._of(name, task, leg) for leg in legs.split("→")) if "→" in legs else None


_COSTS = ("total_ms", "energy_j", "usd", "bytes_sent")


def _median(name: str, lines: Sequence[Logged]) -> float | None:
    known = [value for line in lines if (value := getattr(line, name)) is not None]
    return statistics.median(known) if known else None


def summed(cases: Sequence[Case], *, unreplayable: int = 0) -> Figures:
    """The figures of all cases, at least one."""
    doubts = [case.doubt for case in cases if case.doubt is not None]
    risk = statistics.fmean(doubts) if doubts else None
    low, high = (None, None) if risk is None else _risk_bounds(risk, len(doubts), _total(case.off for case in cases))
    times = sorted(ms for case in cases if (ms := case.ms) is not None)
    unpriced = len(cases) - len(times)
    sent = _total(case.bytes_sent for case in cases)
    timeless = any(case.ms is None and case.route != "none" for case in cases)  # who knows whether these keep their deadline
    return Figures(
        requests=len(cases),
        local_share=sum(case.route == LOCAL for case in cases) / len(cases),
        p50_ms=None if unpriced else times[(len(times) - 1) // 2],
        p95_ms=None if unpriced else times[math.ceil(0.95 * len(times)) - 1],
        joules=_total(case.joules for case in cases),
        usd=_total(case.usd for case in cases),
        bytes_sent=None if sent is None else round(sent),
        risk=risk,
        risk_low=low,
        risk_high=high,
        unanswered=None if timeless else sum(case.route == "none" for case in cases),
        estimated=sum(case.estimated for case in cases),
        unpriced=unpriced,
        unreplayable=unreplayable,
    )


def _risk_bounds(risk: float, kept: int, off: float | None) -> tuple[float | None, float | None]:
    """That of the mean of `kept` doubts, wider by what their confidences may be off. The expected calibration error is a mean over all
    finished answers, and all of it (`off`, the sum) may lie in those that were kept."""
    if off is None:
        return None, None
    low, high = mean_bounds(risk, kept)
    return max(0.0, low - off / kept), min(1.0, high + off / kept)


def mean_bounds(mean: float, n: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """An interval for the expectation of n independent values in [0, 1] with this mean; exact for any n and any distribution.

    By the Chernoff–Hoeffding bound: P(mean ≥ x) ≤ exp(−n·KL(x, mu)) for x above the expectation mu (Hoeffding, 1963, theorem 1).
    """
    limit = math.log(2 / (1 - confidence)) / n
    return _edge(mean, 0.0, limit), _edge(mean, 1.0, limit)


def _edge(mean: float, end: float, limit: float) -> float:
    """The expectation between `mean` and `end` whose divergence from the mean is the limit, rounded outwards."""
    near, far = mean, end
    for _ in range(60):
        middle = (near + far) / 2
        near, far = (middle, far) if _divergence(mean, middle) <= limit else (near, middle)
    return far


def _divergence(x: float, mu: float) -> float:
    """KL(Bernoulli(x), Bernoulli(mu))."""

    def part(a: float, b: float) -> float:
        return 0.0 if a == 0 else math.inf if b == 0 else a * math.log(a / b)

    return part(x, mu) + part(1 - x, 1 - mu)


def _total(values: Iterable[float | None]) -> float | None:
    """The sum, or None if one of them is not known."""
    found = list(values)
    known = [value for value in found if value is not None]
    return math.fsum(known) if len(known) == len(found) else None
