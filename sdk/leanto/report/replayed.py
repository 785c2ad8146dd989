"""The report on a replay: both columns, how long each route took and how much energy, and curves where outcomes are known.

Times and energy of what was answered are drawn as they were logged; what a policy would change is in the table. Knows nothing of files.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from leanto.policy.figures import Figures
from leanto.policy.logged import Logged
from leanto.policy.replay import Replay
from leanto.policy.schema import Policy
from leanto.report.chart import Line, Spread, plot, spreads
from leanto.report.curves import distribution, spread
from leanto.report.outcomes import Outcomes, figures
from leanto.report.page import Figure, Report
from leanto.report.scale import Scale, spanning

_ROWS: tuple[tuple[str, str, float, str], ...] = (  # name, title, factor, unit
    ("requests", "Requests replayed", 1, ""),
    ("local_share", "Kept local", 100, " %"),
    ("p50_ms", "Median time", 1, " ms"),
    ("p95_ms", "95th percentile of the time", 1, " ms"),
    ("joules", "Energy", 1, " J"),
    ("usd", "Money", 1, " USD"),
    ("bytes_sent", "Bytes sent", 1, " B"),
    ("risk", "Risk of what was kept", 100, " %"),
    ("risk_low", "Risk, 95 % interval from", 100, " %"),
    ("risk_high", "Risk, 95 % interval to", 100, " %"),
    ("unanswered", "Answered by nobody", 1, ""),
    ("estimated", "On another route: costs estimated", 1, ""),
    ("unpriced", "On a leg that nothing is known of", 1, ""),
    ("unreplayable", "Not replayable, in no figure", 1, ""),
)


_SOURCES = {
    "rapl": "the processor's counters",
    "battery": "the battery's discharge",
    "token-estimate": "an estimate from tokens",
    "estimate": "an estimate from processor time",
}


def replay_page(log: Sequence[Logged], found: Replay, policy: Policy, pairs: tuple[Sequence[float], Sequence[bool]] | None) -> Report:
    """The report; `pairs` are scores of answers and whether each is worse than the cloud's (or another), where that is known."""
    table = [("", "as it was", "under the new policy"), *(_row(found, *row) for row in _ROWS)]
    answered = [line for line in log if line.answered and line.route != "none"]
    drawn = _curves(log, policy, pairs) + _latency(answered) + _energy(answered)
    notes = [f"{count} requests cannot be replayed: {reason}." for reason, count in found.unreplayable.items()]
    if found.after.unpriced:
        notes.append(f"{found.after.unpriced} requests would take a leg that none of their task took alone: times and costs are not known.")
    about = f"policy {policy.hash[:12]} on {len(log):,} decisions; {found.moved:,} would go elsewhere, {found.skipped:,} lines skipped"
    return Report("Replay of a decision log", about, _cards(found.before, found.after), drawn, table, notes)


def _cards(before: Figures, after: Figures) -> list[tuple[str, str, str]]:
    def card(name: str, title: str, factor: float, unit: str) -> tuple[str, str, str]:
        then, now = (_figure(getattr(one, name), factor, unit) for one in (before, after))
        return title, now, f"was {then}"

    return [card(*row) for row in _ROWS if row[0] in ("local_share", "p50_ms", "p95_ms", "joules", "usd", "risk")]


def _row(found: Replay, name: str, title: str, factor: float, unit: str) -> tuple[str, str, str]:
    then, now = (_figure(getattr(one, name), factor, unit) for one in (found.before, found.after))
    return title, then, now


def _figure(value: float | None, factor: float, unit: str) -> str:
    if value is None:
        return "not known"
    shown = value * factor
    digits = f"{shown:,.0f}" if isinstance(value, int) or abs(shown) >= 1000 else f"{shown:.3g}"
    return digits + unit


def _curves(log: Sequence[Logged], policy: Policy, pairs: tuple[Sequence[float], Sequence[bool]] | None) -> list[Figure]:
    if pairs is None:
        return []
    score, worse = pairs
    return figures(Outcomes(np.asarray(score, np.float64), ~np.asarray(worse, bool)), _threshold(log, policy))


def _threshold(log: Sequence[Logged], policy: Policy) -> float | None:
    """Of the task that the log has most of: the policy's, or the model's own."""
    tasks = [line.facts.task for line in log]
    task = max(set(tasks), key=tasks.count)
    wanted = getattr(policy.quality.confidence_threshold, task)
    own = next((line.artifact_threshold for line in log if line.facts.task == task and line.artifact_threshold is not None), None)
    return own if wanted == "artifact" else wanted


def _routes(log: Sequence[Logged]) -> list[str]:
    """Those that occur, the most common first."""
    routes = [line.route for line in log]
    return [route for route, _ in Counter(routes).most_common()]


def _latency(log: Sequence[Logged]) -> list[Figure]:
    by_route = {route: [line.total_ms for line in log if line.route == route and line.total_ms > 0] for route in _routes(log)}
    lines = [Line(f"{route} ({len(ms):,})", _stairs(ms), steps=True) for route, ms in by_route.items() if ms]
    if not lines:
        return []
    x = spanning("time to the last token, ms", [value for ms in by_route.values() for value in ms], log=True)
    drawn = plot("Latency by route", x, Scale("share of answers", 0, 1, percent=True), lines)
    about = "Share of the answers of a route that were whole within a time, as logged; the number of answers in brackets."
    return [Figure("latency", "Latency", about, drawn)]


def _stairs(ms: list[float]) -> list[tuple[float, float]]:
    points = distribution(ms)
    return [(points[0][0], 0.0), *points]


def _energy(log: Sequence[Logged]) -> list[Figure]:
    by_route = {route: [line.energy_j for line in log if line.route == route and line.energy_j is not None] for route in _routes(log)}
    rows = [
        Spread(f"{route} ({len(joules):,})", spread(joules), _figure(float(np.median(joules)), 1, " J"))
        for route, joules in by_route.items()
        if joules
    ]
    if not rows:
        return []
    x = spanning("energy of a request on this device, J", [row.quantiles[4] for row in rows])
    sources = Counter(line.energy_source or "unknown" for line in log if line.energy_j is not None)
    told = ", ".join(f"{_SOURCES.get(source, source)} ({count:,})" for source, count in sources.most_common())
    about = f"10th to 90th percentile, the quartiles as a box, the median as a stroke and in figures. How it was told: {told}."
    return [Figure("energy", "Energy", about, spreads("Energy by route", x, rows))]
