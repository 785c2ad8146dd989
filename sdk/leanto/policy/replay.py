"""Another policy on yesterday's log: where each request would have gone, and what that would have cost. Spends no token.

What the log does not hold is tried both ways. Where that makes a difference the request cannot be replayed: it is counted with the
reason, and left out of both columns. A leg that a request did not take costs what it took others of the same task, in time as well: so
it may be late. What broke, or was cut off, breaks again.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from leanto.decision import CANCELLED, SAMPLED, Promise
from leanto.errors import UserError
from leanto.local.degeneration import Breakdown
from leanto.local.pace import FEWEST_TOKENS
from leanto.policy.budgets import EDGE_SHARE, cloud_ms
from leanto.policy.decide import (
    certified_score,
    decide,
    judge_answer,
    judge_breakdown,
    judge_certificate,
    judge_low,
    judge_probe,
    judge_stream,
    judge_structure,
    stay,
)
from leanto.policy.figures import Costs, Course, Figures, summed, taken
from leanto.policy.logged import Logged
from leanto.policy.schema import ARTIFACT, Policy
from leanto.policy.verdict import CLOUD, LOCAL, Verdict
from leanto.prompt_score import router_name

if TYPE_CHECKING:
    from leanto.certificates.certificate import Certificates

_BOTH = {
    "prompt_score": (0.0, 1.0),
    "foreseen": (0.0, 1.0),
    "lowest": (-math.inf, 0.0),
    "low": (-math.inf, 0.0),
    "edge_ms": (0.0, math.inf),
    "valid_call": (True, False),
    "confidence": (0.0, 1.0),
}
_MISSING = {
    "prompt_score": "the policy's router did not score the prompt",
    "foreseen": "the edge did not read the prompt",
    "lowest": "the stream was not watched with this window",
    "low": "the stream was not watched for low logprobs",
    "edge_ms": "the log does not say how long the edge would have taken",
    "valid_call": "the edge's answer was not finished",
    "confidence": "the edge's answer was not finished",
    "promise": "the log does not say what was certified",
    "given_up": "the log does not say how long the answer might have become",
}
_FOLLOWS = ("NoRoute", "PromptRefused", "DeadlineExceeded", "BudgetSpent")  # from the stages and the times, again
_ANY_PROMISE = (Promise(), Promise(0.0, ""), Promise(math.inf, ""))
Span = tuple[float, float]  # the earliest and the latest, in ms from the call
Known = Mapping[str, tuple[Any, ...]]  # by name, every value that is possible: one, if it is known


class Unreplayable(Exception):
    """The log does not hold what this policy asks about a request; the message says what is missing."""


@dataclass(frozen=True, slots=True)
class Replay:
    """The log as it was, and as it would have been, without the requests that cannot be replayed: `unreplayable` counts these by
    reason. `routes` are those after, in the order of the log, None for these. `skipped`: lines that are no decision; `moved`: requests
    whose route changes."""

    before: Figures
    after: Figures
    moved: int
    skipped: int
    unreplayable: Mapping[str, int]
    routes: tuple[str | None, ...]


def replay(log: Sequence[Logged], policy: Policy, *, skipped: int = 0, now: float = 0.0) -> Replay:
    """Every request of the log under `policy`; certificates must hold at `now`. Raises UserError where nothing can be replayed."""
    if not log:
        raise UserError("the log holds no decision that could be replayed; a client writes one with log=FILE")
    costs = Costs(log)
    replayer, reasons = Replayer(policy, now, costs), Counter[str]()
    courses: list[Course | None] = []
    for line in log:
        try:
            courses.append(replayer.course(line))
        except Unreplayable as missing:
            courses.append(None)
            reasons[str(missing)] += 1
    done = [(line, course) for line, course in zip(log, courses, strict=True) if course is not None]
    if not done:
        why = "; ".join(f"{count} × {reason}" for reason, count in reasons.most_common())
        raise UserError(f"no decision of the log can be replayed under this policy: {why}")
    before = summed([costs.case(line, taken(line)) for line, _ in done])
    after = summed([costs.case(line, course) for line, course in done], unreplayable=reasons.total())
    moved = sum(taken(line).route != course.route for line, course in done)
    routes = tuple(course.route if course else None for course in courses)
    return Replay(before, after, moved, skipped, dict(reasons), routes)


class Replayer:
    """One policy with its router and certificates, read once; `now` is when the certificates must hold (seconds since the epoch), `costs`
    tell how long a leg takes."""

    def __init__(self, policy: Policy, now: float = 0.0, costs: Costs | None = None) -> None:
        self._policy = policy
        self._now = now
        self._costs = costs or Costs(())
        folder = Path(policy.origin).parent
        self._router = router_name(folder / policy.quality.router) if policy.quality.router else None
        self._certificates: Certificates | None = None
        files = [folder / file for file in policy.quality.certificates if file != ARTIFACT]
        if files:
            from leanto.certificates.certificate import Certificates

            self._certificates = Certificates(files, (), policy.quality.certificate_key)

    def course(self, line: Logged) -> Course:
        """What would have become of the request. Raises Unreplayable."""
        if line.policy_hash == self._policy.hash and line.facts.router == self._router and self._certificates is None:
            return taken(line)
        course = self._only_one(line)
        broke = line.error is not None and line.error not in _FOLLOWS and not line.edge_failed and not line.cloud_failed
        if line.error != CANCELLED and not broke:
            return course
        if course.legs == line.route:
            return replace(course, answered=False)
        if line.error == CANCELLED:
            raise Unreplayable("its caller had left")
        return course

    def _only_one(self, line: Logged) -> Course:
        """The course that follows from every possible value of what is not known."""
        known = self._known(line)
        courses = self._possible(line, known)
        if len(courses) == 1:
            return courses.pop()
        if LOCAL not in line.route and not line.local_tokens and not line.cut_off:
            raise Unreplayable("the edge did not try it")
        open_ = [name for name, values in known.items() if len(values) > 1]
        decisive = [name for name in open_ if self._possible(line, {**known, name: known[name][:1]}) != courses]
        raise Unreplayable(_MISSING[(decisive or open_)[0]])

    def _possible(self, line: Logged, known: Known) -> set[Course]:
        return {self._through(line, dict(zip(known, values, strict=True))) for values in itertools.product(*known.values())}

    def _known(self, line: Logged) -> Known:
        """What the log says, and both ends of what it does not."""
        known: dict[str, tuple[Any, ...]] = dict(_BOTH)
        if self._policy.quality.router is None or self._router is None or self._router == line.facts.router:
            known["prompt_score"] = (line.facts.prompt_score if self._router else None,)
        if line.facts.edge_probe_floor is None or line.foreseen is not None:
            known["foreseen"] = (line.foreseen,)
        window = self._policy.handoff.window
        if line.lowest is not None and line.window == window:
            known["lowest"] = (line.lowest,) if line.finished else (line.lowest, -math.inf)
        elif line.finished and line.local_tokens < window:
            known["lowest"] = (None,)
        if line.finished and line.low is not None:
            known["low"] = (line.low,)
        if line.valid_call is not None or line.confidence is not None:
            known["valid_call"] = (line.valid_call is not False,)
        if line.confidence is not None:
            known["confidence"] = (line.confidence,)
        edge_ms, deadline_ms = self._edge_ms(line), self._policy.budgets.deadline_ms
        at_work = any(ms is not None and EDGE_SHARE * deadline_ms < ms <= deadline_ms and _tells(line, ms, deadline_ms) for ms in edge_ms)
        given_up = (False, True) if at_work else (False,)  # it might have become longer than it did
        if _over(line.slow_ms, deadline_ms):
            given_up = (True,) if deadline_ms <= line.slow_for_ms else (False, True)  # with more time, it might have been through
        return known | {"edge_ms": edge_ms, "given_up": given_up, "promise": self._promised(line)}

    def _edge_ms(self, line: Logged) -> tuple[float | None, ...]:
        """How long the edge takes to the end of its answer: as measured, else what it takes others; None where nobody knows."""
        if line.cut_off:
            return math.nextafter(line.total_ms, math.inf), math.inf  # longer than that
        if line.route == LOCAL and line.answered and not line.cloud_failed:
            return (line.total_ms,)
        others = self._costs.ms(line.facts.task, LOCAL)
        if not line.finished:
            return (others,)
        return (0.0, line.total_ms) if others is None else (min(others, line.total_ms),)

    def _promised(self, line: Logged) -> tuple[Promise, ...]:
        """What the certificates say; those that a model carries are not in the log, but what they said is."""
        named = self._policy.quality.certificates
        if not named:
            return (Promise(why_not="the policy names none"),)
        if line.promise is not None and line.promise.why_not == SAMPLED:
            return (line.promise,)
        cloud = line.cloud_model or (self._policy.cloud.model if self._policy.cloud else None)
        if set(named) == {ARTIFACT}:
            return _ANY_PROMISE if line.promise is None else (line.promise,)
        if ARTIFACT in named or self._certificates is None or line.facts.score is None or cloud is None:
            return _ANY_PROMISE
        score = line.facts.score
        return (self._certificates.promise(line.edge_build, cloud, line.facts.task, self._now, score=score, alarmed=lambda _: False),)

    def _through(self, line: Logged, known: Mapping[str, Any]) -> Course:
        """The stages, as a client goes through them."""
        policy, edge_ms, both = self._policy, known["edge_ms"], f"{LOCAL}→{CLOUD}"
        deadline_ms = policy.budgets.deadline_ms
        verdict = decide(policy, replace(line.facts, prompt_score=known["prompt_score"]), line.snapshot, line.spent)
        if verdict.start is None:
            return Course("none", answered=False)
        if verdict.start == CLOUD:
            return self._in_cloud(line, verdict, CLOUD, (0.0, 0.0), None if edge_ms is None else (edge_ms, edge_ms))
        if verdict.allowed != (LOCAL,) and not policy.handoff.max_switches:
            verdict = stay(verdict, "max_switches", 0, 0, "max-switches", "")
        if line.edge_failed:
            return self._without_edge(line, verdict)
        if CLOUD in verdict.allowed and known["foreseen"] is not None:
            verdict = judge_probe(policy, verdict, known["foreseen"], line.facts.edge_probe_floor)
            if verdict.start == CLOUD:
                return self._in_cloud(line, verdict, CLOUD, (0.0, 0.0), None if edge_ms is None else (edge_ms, edge_ms))
        verdict = self._watched(line, verdict, known)
        if verdict.start == CLOUD:
            return self._in_mid_answer(line, verdict, line.total_ms if edge_ms is None else edge_ms, edge_ms)
        late = _over(edge_ms, deadline_ms)
        if CLOUD in verdict.allowed and (known["given_up"] or (late and _tells(line, edge_ms, deadline_ms))):
            return self._in_mid_answer(line, verdict, EDGE_SHARE * deadline_ms, edge_ms)
        if late:
            return Course(LOCAL, answered=False, ms=deadline_ms)
        verdict = self._judged(line, verdict, known)
        if verdict.start == CLOUD:
            return self._in_cloud(line, verdict, both, (0.0, line.total_ms) if edge_ms is None else (edge_ms, edge_ms), (0.0, 0.0))
        return Course(LOCAL, answered=verdict.start == LOCAL)

    def _watched(self, line: Logged, verdict: Verdict, known: Mapping[str, Any]) -> Verdict:
        """Stage 4, only while there is a cloud to turn to."""
        policy = self._policy
        if CLOUD in verdict.allowed and known["lowest"] is not None:
            verdict = judge_stream(policy, verdict, known["lowest"])
        if CLOUD in verdict.allowed and verdict.start == LOCAL:
            verdict = judge_low(policy, verdict, known["low"], line.facts.edge_low_floor)
        most = policy.handoff.max_repeats
        if CLOUD in verdict.allowed and verdict.start == LOCAL and (line.no_json or (most is not None and line.repeats > most)):
            verdict = judge_breakdown(policy, verdict, Breakdown("broken off", False, True, "as logged"))
        return verdict

    def _judged(self, line: Logged, verdict: Verdict, known: Mapping[str, Any]) -> Verdict:
        """Stages 5 and 6."""
        policy, task = self._policy, line.facts.task
        if task == "call":
            verdict = judge_structure(policy, verdict, known["valid_call"])
        if verdict.start == LOCAL:
            verdict = judge_answer(policy, verdict, task, known["confidence"], line.artifact_threshold, known["promise"])
            watched = ((known["low"], line.facts.edge_low_floor), (known["foreseen"], line.facts.edge_probe_floor))
            verdict = judge_certificate(policy, verdict, certified_score(known["confidence"], *watched), known["promise"])
        return verdict

    def _without_edge(self, line: Logged, verdict: Verdict) -> Course:
        """The edge breaks again: to the cloud, if it may be."""
        if CLOUD not in verdict.allowed:
            return Course(line.route, answered=False)
        legs = line.route if CLOUD in line.route else f"{LOCAL}→{CLOUD}" if line.local_tokens else CLOUD
        return self._in_cloud(line, replace(verdict, constrained=(CLOUD,)), legs, (0.0, line.total_ms), None)

    def _in_mid_answer(self, line: Logged, verdict: Verdict, latest_ms: float, edge_ms: float | None) -> Course:
        """To the cloud at some moment up to `latest_ms`."""
        rest = None if edge_ms is None else (max(0.0, edge_ms - latest_ms), edge_ms)
        return self._in_cloud(line, verdict, f"{LOCAL}→{CLOUD}", (0.0, latest_ms), rest)

    def _in_cloud(self, line: Logged, verdict: Verdict, legs: str, since: Span, rest: Span | None) -> Course:
        """From `since` on the cloud answers in the time that it gets, or the edge where it may, after `rest` more; None: nobody knows."""
        deadline_ms = self._policy.budgets.deadline_ms
        moments = [min(ms, deadline_ms) for ms in since]
        until = [ms + cloud_ms(self._policy, verdict, deadline_ms - ms) for ms in moments]
        if not line.cloud_failed:
            answered = self._answered_ms(line, legs, moments)
            late = [_over(ms, limit_ms) for ms, limit_ms in zip(answered, until, strict=True)]
            if not _one(late, "when the cloud would have been asked"):
                return Course(legs)
        elif line.cloud_late and until[1] > line.total_ms:
            raise Unreplayable("the cloud was late, and would have had more time")
        best_effort = LOCAL in verdict.constrained and not line.edge_failed and self._policy.offline.mode == "local_best_effort"
        lost = Course(line.route if line.cloud_failed else legs, False, None if line.cloud_failed else until[1])
        if not best_effort:
            return lost
        if line.cloud_failed and line.answered and LOCAL in line.route and line.total_ms <= deadline_ms:
            return taken(line)
        if rest is None:
            raise Unreplayable(_MISSING["edge_ms"])
        done = [at_ms + rest_ms for at_ms, rest_ms in zip(until, rest, strict=True)]
        if any(rest) and _one([ms > deadline_ms for ms in done], "how long the edge would have taken"):
            return replace(lost, ms=deadline_ms)
        return Course(line.route if line.cloud_failed and LOCAL in line.route else LOCAL, ms=done[1])

    def _answered_ms(self, line: Logged, legs: str, since: Sequence[float]) -> list[float | None]:
        """When the cloud's answer is complete, if it is asked at one of these moments: as measured, else after what it takes others."""
        if line.answered and legs == line.route and line.slow_ms is None:
            return [line.total_ms for _ in since]
        others = self._costs.ms(line.facts.task, CLOUD)
        return [None if others is None else ms + others for ms in since]


def _one(found: Sequence[bool], what: str) -> bool:
    """What all of it says."""
    if len(set(found)) > 1:
        raise Unreplayable(f"the log does not say {what}")
    return found[0]


def _tells(line: Logged, edge_ms: float, deadline_ms: float) -> bool:
    """Whether the pace of the edge is known before the deadline, if its tokens come evenly."""
    return line.local_tokens * deadline_ms >= FEWEST_TOKENS * min(edge_ms, line.total_ms)


def _over(ms: float | None, limit_ms: float) -> bool:
    """Whether it is too late; what nobody knows is taken to be in time."""
    return ms is not None and ms > limit_ms
