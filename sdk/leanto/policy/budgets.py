"""Stage 2: what the cloud and the edge may cost. A spent purse takes the cloud away for good; all else is a wish that the last target
need not grant.
"""

from __future__ import annotations

from dataclasses import replace

from leanto.decision import Facts, Spent, Target, Value
from leanto.policy.hysteresis import limits
from leanto.policy.schema import CloudTarget, Policy
from leanto.policy.verdict import CLOUD, LOCAL, Finding, Verdict, above, below, lean, take_away
from leanto.signals import Snapshot

EDGE_SHARE = 0.5  # of the deadline, before an answer that may yet be long is given up as too slow
CLOUD_SHARE = 0.8  # of the time left; the rest is the edge's, should the cloud be late


def cloud_ms(policy: Policy, verdict: Verdict, left_ms: float) -> float:
    """What the cloud gets of the time left: not all of it where the edge may take over."""
    share = CLOUD_SHARE if LOCAL in verdict.constrained else 1.0
    return min((policy.cloud or CloudTarget()).timeout_ms, share * left_ms)


def budget(policy: Policy, facts: Facts, snapshot: Snapshot, spent: Spent, verdict: Verdict) -> Verdict:
    """What the cloud may cost first, then what spares the device, the link and the reader's time."""

    def wish(
        name: str, value: Value, threshold: Value, fails: bool | None, label: str, reason: str, flip: str, *, away: Target = LOCAL
    ) -> Verdict:
        return lean(verdict, Finding("budgets", name, value, threshold, fails, label, reason, flip), policy.offline.mode, away=away)

    budgets, found, day = policy.budgets, limits(policy, snapshot), spent.last_day
    for purse in _purses(policy, spent):
        if purse.fails and CLOUD in verdict.allowed:  # out for good, even as the only target
            verdict = replace(verdict, constrained=tuple(target for target in verdict.constrained if target != CLOUD))
        verdict = take_away(verdict, CLOUD, purse)
    if (joules := budgets.local_joules_per_day) is not None:
        used = day.joules if day.known else None
        empty = None if used is None else used >= joules
        verdict = wish(
            "joules_last_day", used, joules, empty, "energy-spent", "energy of the edge in the last 24 hours", below(used, joules)
        )
    if not facts.edge_fit:
        reason = "the edge model came out of its compression broken: its confidence means nothing"
        verdict = wish("edge_fit", False, True, True, "unfit", reason, "a model that is fit")
    for name, label, away, reason in _STRAINS:
        strain = found[name]
        if strain.bound is not None:
            flip = (below if name == "battery_percent" else above)(strain.value, strain.bound)
            holds = strain.holds
            if holds is None and budgets.unknown_signals == "fail" and name != "rtt_ms":  # which only a call can tell
                holds, flip, reason = True, "a value", f"{reason}; no source can tell, which counts as too much"
            verdict = wish(name, strain.value, strain.bound, holds, label, reason, flip, away=away)
    throttled = snapshot.throttled if snapshot.throttled is not None else "throttled" in snapshot.strained or None
    if throttled is not None:
        flip, reason = str(not throttled).lower(), "a part is so hot that the machine slows down"
        verdict = wish("throttled", throttled, False, throttled, "throttled", reason, flip)
    if budgets.metered_link == "spare":
        metered, flip = snapshot.metered, "" if snapshot.metered is None else str(not snapshot.metered).lower()
        verdict = wish("metered", metered, False, metered, "metered", "bytes cost money on this link", flip, away=CLOUD)
    return _pace(policy, facts, verdict)


def affords(policy: Policy, spent: Spent) -> bool:
    """Whether no budget of the cloud is used up."""
    return not any(purse.fails for purse in _purses(policy, spent))


def overtaken(policy: Policy, spent: Spent, verdict: Verdict) -> Verdict:
    """A budget was used up between the decision and the call: the cloud is out for good, and the edge is back as the last resort."""
    left: tuple[Target, ...] = tuple(target for target in verdict.constrained if target != CLOUD)
    verdict = replace(verdict, allowed=left, constrained=left)
    for purse in _purses(policy, spent):
        if purse.fails:
            reason = f"{purse.reason}; used up since the decision was made"
            verdict = verdict.label(purse.label).record("offline", purse.name, purse.value, purse.threshold, "veto", reason, purse.flip)
    return verdict


def _pace(policy: Policy, facts: Facts, verdict: Verdict) -> Verdict:
    """Whether the edge can be through in time, as far as its last answers tell."""
    expected, deadline = facts.expected_local_ms, policy.budgets.deadline_ms
    if expected is None:
        return verdict
    reason, late = "what an answer to this task takes the edge, by its last ones", expected > deadline
    found = Finding("budgets", "local_ms", expected, deadline, late, "too-slow", reason, above(expected, deadline))
    return lean(verdict, found, policy.offline.mode)


_STRAINS: tuple[tuple[str, str, Target, str], ...] = (  # name of the limit, label, who steps back, why
    ("battery_percent", "battery", LOCAL, "unplugged and low: leaning saves energy"),
    ("temperature_c", "temperature", LOCAL, "the hottest sensor"),
    ("cpu_load", "load", LOCAL, "run queue per CPU"),
    ("memory_pressure", "memory", LOCAL, "share of the time that something waited for memory"),
    ("rtt_ms", "far-cloud", CLOUD, "time to the cloud and back"),
)


def _purses(policy: Policy, spent: Spent) -> list[Finding]:
    """What the cloud may cost. What is not known any more counts as spent."""
    budgets, day = policy.budgets, spent.last_day
    found = []
    for name, value, limit, label, reason in (
        ("bytes_sent", spent.bytes_sent, budgets.cloud_bytes_per_session, "egress-spent", "sealed bytes sent by this client"),
        ("bytes_last_day", day.bytes_sent, budgets.cloud_bytes_per_day, "egress-spent", "sealed bytes sent in the last 24 hours"),
        ("calls_last_day", day.calls, budgets.cloud_calls_per_day, "calls-spent", "calls of the cloud in the last 24 hours"),
        ("usd_last_day", day.usd, budgets.cloud_usd_per_day, "money-spent", "price of the cloud's tokens in the last 24 hours"),
    ):
        if limit is not None or name == "bytes_sent":
            known = value if day.known or name == "bytes_sent" else None
            gone = limit is not None and (known is None or known >= limit)
            shown: Value = "unlimited" if limit is None else limit
            label = label if known is not None else "ledger-failed"
            found.append(Finding("budgets", name, known, shown, gone, label, reason, below(known, limit)))
    return found
