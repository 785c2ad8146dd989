"""The targets left at some point of a decision, and the two ways in which a check may take one away. Pure values, like all of a decision.

Knows nothing of policies or of what is compared.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, get_args

from leanto.decision import Check, Outcome, Stage, Target, Value

LOCAL: Target = "local"
CLOUD: Target = "cloud"
TARGETS: tuple[Target, ...] = get_args(Target)


@dataclass(frozen=True, slots=True)
class Verdict:
    """The targets left, and how they came to be so.

    `constrained` is what the hard constraints left: no later step, not even a fallback, goes outside it. `offline` says that the
    cloud is missing because it cannot be reached, which is when `offline.mode` applies.

    Not made with `dataclasses.replace`, which takes four times as long: a decision has a dozen of them.
    """

    allowed: tuple[Target, ...] = TARGETS
    constrained: tuple[Target, ...] = TARGETS
    checks: tuple[Check, ...] = ()
    labels: tuple[str, ...] = ()
    offline: bool = False

    @property
    def start(self) -> Target | None:
        """Where generation starts: the edge wherever it may."""
        return next((target for target in TARGETS if target in self.allowed), None)

    def record(self, stage: Stage, name: str, value: Value, threshold: Value, outcome: Outcome, reason: str, flip: str = "") -> Verdict:
        """The same targets, with one more line in the record."""
        check = Check(stage, name, value, threshold, outcome, self.allowed, reason, flip)
        return Verdict(self.allowed, self.constrained, (*self.checks, check), self.labels, self.offline)

    def label(self, label: str) -> Verdict:
        """The same targets, with one more label."""
        return self if label in self.labels else Verdict(self.allowed, self.constrained, self.checks, (*self.labels, label), self.offline)

    def remove(self, target: Target, label: str) -> Verdict:
        """Without `target`."""
        left: tuple[Target, ...] = tuple(other for other in self.allowed if other != target)
        return Verdict(left, self.constrained, self.checks, self.labels, self.offline).label(label)


class Finding(NamedTuple):
    """What a check found: `fails` None where no source could tell. `flip` is the value that would have turned it."""

    stage: Stage
    name: str
    value: Value
    threshold: Value
    fails: bool | None
    label: str
    reason: str
    flip: str = ""


def take_away(verdict: Verdict, target: Target, found: Finding) -> Verdict:
    """A constraint: removes `target` when it fails, even the last one. A target already gone cannot be vetoed again."""
    if found.fails is None:
        return _record(verdict, found, "unknown", "; unknown counts as passed")
    if not found.fails or target not in verdict.allowed:
        return _record(verdict, found, "moot" if found.fails else "pass")
    return _record(verdict.remove(target, found.label), found, "veto")


def step_back(verdict: Verdict, target: Target, found: Finding, *, or_fail: bool = False) -> Verdict:
    """A wish: `target` steps back while there is another; the last one stays, labelled, or goes when told to fail instead."""
    if found.fails is None:
        return _record(verdict, found, "unknown")
    if not found.fails or target not in verdict.allowed:
        return _record(verdict, found, "moot" if found.fails else "pass")
    if len(verdict.allowed) > 1 or or_fail:
        return _record(verdict.remove(target, found.label), found, "veto")
    return _record(verdict.label(found.label), found, "waived", "; kept, there is no other target")


def lean(verdict: Verdict, found: Finding, offline: str, *, away: Target = LOCAL) -> Verdict:
    """A wish to answer elsewhere. Where the cloud is missing only because it cannot be reached, `offline.mode` may say to fail instead."""
    return step_back(verdict, away, found, or_fail=away == LOCAL and verdict.offline and offline == "fail")


def below(value: float | None, floor: float | None) -> str:
    """What turns a check that fails below `floor`."""
    return "" if value is None or floor is None else ("< " if value >= floor else ">= ") + _exact(floor)


def above(value: float | None, most: float | None) -> str:
    """What turns a check that fails above `most`."""
    return "" if value is None or most is None else ("> " if value <= most else "<= ") + _exact(most)


def _exact(number: float) -> str:
    return repr(number).removesuffix(".0")


def _record(verdict: Verdict, found: Finding, outcome: Outcome, more: str = "") -> Verdict:
    return verdict.record(found.stage, found.name, found.value, found.threshold, outcome, found.reason + more, found.flip)
