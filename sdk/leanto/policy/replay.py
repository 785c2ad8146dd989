"""Another policy on yesterday's log: where each request would have gone, and what that would have cost. Spends no token.

What the log measured is taken as it is; a leg that a request did not take costs what others' did, by task, and is counted as estimated.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from leanto.decision import Facts, Promise, Spent
from leanto.errors import UserError
from leanto.ledger import Spending
from leanto.policy.decide import decide, judge_answer, judge_certificate, judge_stream
from leanto.policy.schema import Policy
from leanto.policy.verdict import CLOUD, LOCAL
from leanto.signals import Snapshot

Z95 = 1.959964


@dataclass(frozen=True, slots=True)
class Logged:
    """What a replay needs of one line of a decision log. `lowest` is the worst windowed mean logprob, of `window` tokens."""

    route: str
    facts: Facts
    spent: Spent
    snapshot: Snapshot
    confidence: float | None
    calibrated: bool
    artifact_threshold: float | None
    promise: Promise | None
    lowest: float | None
    window: int | None
    total_ms: float
    energy_j: float | None
    usd: float
    bytes_sent: int


@dataclass(frozen=True, slots=True)
class Figures:
    """Of all requests of a log under one policy. `risk` is the chance that an answer kept on the edge is wrong, by its calibrated
    confidence, with a 95 % interval; None where nothing calibrated was kept.
    """

    requests: int
    local_share: float
    p50_ms: float
    p95_ms: float
    joules: float
    usd: float
    bytes_sent: int
    risk: float | None
    risk_low: float | None
    risk_high: float | None
    unanswered: int
    estimated: int

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Replay:
    """The log as it was, and as it would have been. `skipped`: lines that do not say enough. `moved`: requests whose route changes."""

    before: Figures
    after: Figures
    moved: int
    skipped: int


def read_log(path: str | Path) -> tuple[list[Logged], int]:
    """The decisions in a JSONL log, and how many lines were not one. Raises UserError if it cannot be read."""
    found: list[Logged] = []
    skipped = 0
    try:
        with Path(path).open(encoding="utf-8", errors="replace") as file:
            for line in file:
                try:
                    found.append(_logged(json.loads(line)))
                except (ValueError, KeyError, TypeError, RecursionError):
                    skipped += 1
    except OSError as error:
        raise UserError(f"{path}: the log cannot be read: {error.strerror or error}") from None
    return found, skipped


def replay(log: Sequence[Logged], policy: Policy, *, skipped: int = 0) -> Replay:
    """Every request of the log under `policy`. Raises UserError for an empty log."""
    if not log:
        raise UserError("the log holds no decision that could be replayed; a client writes one with log=FILE")
    costs = _Costs(log)
    routes = [route_under(policy, line) for line in log]
    before = _figures([_case(line, line.route, costs) for line in log])
    after = _figures([_case(line, route, costs) for line, route in zip(log, routes, strict=True)])
    return Replay(before, after, sum(line.route != route for line, route in zip(log, routes, strict=True)), skipped)


def route_under(policy: Policy, line: Logged) -> str:
    """Where the request would have gone: "local", "cloud", "local→cloud" or "none". Evidence that the log lacks is taken as good."""
    verdict = decide(policy, line.facts, line.snapshot, line.spent)
    if verdict.start != LOCAL:
        return verdict.start or "none"
    if line.lowest is not None and line.window == policy.handoff.window:
        verdict = judge_stream(policy, verdict, line.lowest)
    if verdict.start == LOCAL and line.confidence is not None:
        promise = line.promise if line.promise and policy.quality.certificates else Promise()
        verdict = judge_answer(policy, verdict, line.facts.task, line.confidence, line.artifact_threshold, promise)
        verdict = judge_certificate(policy, verdict, line.confidence, promise)
    if verdict.start == LOCAL or policy.handoff.max_switches == 0:
        return LOCAL
    return f"{LOCAL}→{CLOUD}" if verdict.start == CLOUD else "none"


@dataclass(frozen=True, slots=True)
class _Case:
    route: str
    ms: float
    joules: float
    usd: float
    bytes_sent: float
    doubt: float | None
    estimated: bool


class _Costs:
    """Medians of what a leg took, by task, from requests that took that one alone."""

    def __init__(self, log: Sequence[Logged]) -> None:
        self._found: dict[tuple[str, str], tuple[float, float, float, float]] = {}
        for task in {line.facts.task for line in log}:
            for leg in (LOCAL, CLOUD):
                alone = [line for line in log if line.route == leg and line.facts.task == task]
                self._found[task, leg] = (
                    _median(line.total_ms for line in alone),
                    _median(line.energy_j for line in alone if line.energy_j is not None),
                    _median(line.usd for line in alone),
                    _median(line.bytes_sent for line in alone),
                )

    def of(self, task: str, legs: Iterable[str]) -> tuple[float, ...]:
        return tuple(math.fsum(column) for column in zip((0.0,) * 4, *(self._found[task, leg] for leg in legs), strict=True))


def _case(line: Logged, route: str, costs: _Costs) -> _Case:
    kept = route == LOCAL and line.calibrated and line.confidence is not None
    doubt = 1.0 - line.confidence if kept and line.confidence is not None else None
    if route == line.route:
        return _Case(route, line.total_ms, line.energy_j or 0.0, line.usd, line.bytes_sent, doubt, False)
    legs = [leg for leg in route.split("→") if leg != "none"]
    ms, joules, usd, bytes_sent = costs.of(line.facts.task, legs)
    return _Case(route, ms, joules, usd, bytes_sent, doubt, True)


def _figures(cases: Sequence[_Case]) -> Figures:
    doubts = [case.doubt for case in cases if case.doubt is not None]
    risk = statistics.fmean(doubts) if doubts else None
    spread = Z95 * statistics.stdev(doubts) / math.sqrt(len(doubts)) if len(doubts) > 1 else 1.0
    times = sorted(case.ms for case in cases)
    return Figures(
        requests=len(cases),
        local_share=sum(case.route == LOCAL for case in cases) / len(cases),
        p50_ms=times[(len(times) - 1) // 2],
        p95_ms=times[math.ceil(0.95 * len(times)) - 1],
        joules=math.fsum(case.joules for case in cases),
        usd=math.fsum(case.usd for case in cases),
        bytes_sent=round(math.fsum(case.bytes_sent for case in cases)),
        risk=risk,
        risk_low=None if risk is None else max(0.0, risk - spread),
        risk_high=None if risk is None else min(1.0, risk + spread),
        unanswered=sum(case.route == "none" for case in cases),
        estimated=sum(case.estimated for case in cases),
    )


def _median(values: Iterable[float]) -> float:
    found = list(values)
    return statistics.median(found) if found else 0.0


def _logged(record: dict[str, Any]) -> Logged:
    facts = dict(record["facts"], edge_tasks=tuple(record["facts"]["edge_tasks"]))
    spent = Spent(record["spent"]["bytes_sent"], Spending(**record["spent"]["last_day"]))
    stream = [check for check in record["checks"] if check["stage"] == "stream" and check["name"].startswith("mean_logprob_")]
    watched = next((check for check in reversed(stream) if check["value"] is not None), None)
    plain = {field.name: record[field.name] for field in fields(Logged) if field.name in record}
    plain |= {"promise": Promise(**record["promise"]) if record.get("promise") else None}
    plain |= {"facts": Facts(**facts), "spent": spent, "snapshot": Snapshot(**record["snapshot"])}
    plain |= {"lowest": watched and float(watched["value"]), "window": watched and int(watched["name"].rpartition("_")[2])}
    return Logged(**plain)
