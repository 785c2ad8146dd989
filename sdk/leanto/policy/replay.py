"""Another policy on yesterday's log: where each request would have gone, and what that would have cost. Spends no token.

What the log does not hold is tried both ways. Where that makes a difference the request cannot be replayed: it is counted with the
reason, and left out of both columns. A leg that a request did not take costs what it took others of the same task.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from leanto.decision import SAMPLED, Promise
from leanto.errors import UserError
from leanto.local.degeneration import Breakdown
from leanto.policy.decide import (
    decide,
    judge_answer,
    judge_breakdown,
    judge_certificate,
    judge_low,
    judge_pace,
    judge_stream,
    judge_structure,
)
from leanto.policy.figures import Costs, Figures, summed
from leanto.policy.logged import Logged
from leanto.policy.schema import ARTIFACT, Policy
from leanto.policy.verdict import CLOUD, LOCAL, Verdict
from leanto.prompt_score import router_name

if TYPE_CHECKING:
    from leanto.certificates.certificate import Certificates

_BOTH = {
    "prompt_score": (0.0, 1.0),
    "lowest": (-math.inf, 0.0),
    "low": (-math.inf, 0.0),
    "valid_call": (True, False),
    "confidence": (0.0, 1.0),
}
_MISSING = {
    "prompt_score": "the policy's router did not score the prompt",
    "lowest": "the stream was not watched with this window",
    "low": "the stream was not watched for low logprobs",
    "valid_call": "the edge's answer was not finished",
    "confidence": "the edge's answer was not finished",
    "promise": "the log does not say what was certified",
}
_ANY_PROMISE = (Promise(), Promise(0.0, ""), Promise(math.inf, ""))
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
    replayer, reasons = Replayer(policy, now), Counter[str]()
    routes: list[str | None] = []
    for line in log:
        try:
            routes.append(replayer.route(line))
        except Unreplayable as missing:
            routes.append(None)
            reasons[str(missing)] += 1
    done = [(line, route) for line, route in zip(log, routes, strict=True) if route is not None]
    if not done:
        why = "; ".join(f"{count} × {reason}" for reason, count in reasons.most_common())
        raise UserError(f"no decision of the log can be replayed under this policy: {why}")
    costs, missed = Costs(log), sum(reasons.values())
    before = summed([costs.case(line, line.route) for line, _ in done])
    after = summed([costs.case(line, route) for line, route in done], unreplayable=missed)
    return Replay(before, after, sum(line.route != route for line, route in done), skipped, dict(reasons), tuple(routes))


class Replayer:
    """One policy with its router and certificates, read once; `now` is when the certificates must hold (seconds since the epoch)."""

    def __init__(self, policy: Policy, now: float = 0.0) -> None:
        self._policy = policy
        self._now = now
        folder = Path(policy.origin).parent
        self._router = router_name(folder / policy.quality.router) if policy.quality.router else None
        self._certificates: Certificates | None = None
        files = [folder / file for file in policy.quality.certificates if file != ARTIFACT]
        if files:
            from leanto.certificates.certificate import Certificates

            self._certificates = Certificates(files, (), policy.quality.certificate_key)

    def route(self, line: Logged) -> str:
        """Where the request would have gone: "local", "cloud", "local→cloud" or "none". Raises Unreplayable."""
        known = self._known(line)
        routes = self._possible(line, known)
        if len(routes) == 1:
            return routes.pop()
        if LOCAL not in line.route and not line.local_tokens:
            raise Unreplayable("the edge did not try it")
        open_ = [name for name, values in known.items() if len(values) > 1]
        decisive = [name for name in open_ if self._possible(line, {**known, name: known[name][:1]}) != routes]
        raise Unreplayable(_MISSING[(decisive or open_)[0]])

    def _possible(self, line: Logged, known: Known) -> set[str]:
        return {self._through(line, dict(zip(known, values, strict=True))) for values in itertools.product(*known.values())}

    def _known(self, line: Logged) -> Known:
        """What the log says, and both ends of what it does not."""
        known: dict[str, tuple[Any, ...]] = dict(_BOTH)
        if self._policy.quality.router is None or self._router is None or self._router == line.facts.router:
            known["prompt_score"] = (line.facts.prompt_score if self._router else None,)
        window, finished = self._policy.handoff.window, line.confidence is not None or line.valid_call is False
        if line.lowest is not None and line.window == window:
            known["lowest"] = (line.lowest,) if finished else (line.lowest, -math.inf)
        elif finished and line.local_tokens < window:
            known["lowest"] = (None,)
        if finished and line.low is not None:
            known["low"] = (line.low,)
        if line.valid_call is not None or line.confidence is not None:
            known["valid_call"] = (line.valid_call is not False,)
        if line.confidence is not None:
            known["confidence"] = (line.confidence,)
        return known | {"promise": self._promised(line)}

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

    def _through(self, line: Logged, known: Mapping[str, Any]) -> str:
        """The stages, as a client goes through them; what broke in a leg would have broken again."""
        policy = self._policy
        facts = replace(line.facts, prompt_score=known["prompt_score"])
        verdict = decide(policy, facts, line.snapshot, line.spent)
        route: str = verdict.start or "none"
        if route == LOCAL and line.edge_failed:
            route = line.route if CLOUD in verdict.allowed and policy.handoff.max_switches else "none"
        elif route == LOCAL and policy.handoff.max_switches:
            start = self._judged(line, verdict, known).start
            route = f"{LOCAL}→{CLOUD}" if start == CLOUD else start or "none"
        if CLOUD in route and line.cloud_failed:
            best_effort = LOCAL in verdict.constrained and policy.offline.mode == "local_best_effort"
            return line.route if best_effort and LOCAL in line.route else "none"
        return route

    def _judged(self, line: Logged, verdict: Verdict, known: Mapping[str, Any]) -> Verdict:
        """Stages 4 to 6, each only if the edge is still to answer."""
        policy, task = self._policy, line.facts.task
        if CLOUD in verdict.allowed and known["lowest"] is not None:
            verdict = judge_stream(policy, verdict, known["lowest"])
        if CLOUD in verdict.allowed and verdict.start == LOCAL:
            verdict = judge_low(policy, verdict, known["low"], line.facts.edge_low_floor)
        most = policy.handoff.max_repeats
        if CLOUD in verdict.allowed and verdict.start == LOCAL and (line.no_json or (most is not None and line.repeats > most)):
            verdict = judge_breakdown(policy, verdict, Breakdown("broken off", False, True, "as logged"))
        if CLOUD in verdict.allowed and verdict.start == LOCAL and line.slow_ms is not None:
            verdict = judge_pace(policy, verdict, line.slow_ms)
        if verdict.start == LOCAL and task == "call":
            verdict = judge_structure(policy, verdict, known["valid_call"])
        if verdict.start == LOCAL:
            verdict = judge_answer(policy, verdict, task, known["confidence"], line.artifact_threshold, known["promise"])
            low, floor = known["low"], line.facts.edge_low_floor
            given_up = low is not None and floor is not None and low < floor  # it was certified without such answers
            verdict = judge_certificate(policy, verdict, 0.0 if given_up else known["confidence"], known["promise"])
        return verdict
