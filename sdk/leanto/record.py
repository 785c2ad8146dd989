"""From what was known of a request, and what was done, to the one Decision. Pure; knows nothing of how either came about."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from leanto.decision import CANCELLED, STAGES, Check, Decision, Facts, Promise, Spent, Stage
from leanto.policy import Policy, Verdict, decide
from leanto.policy.schema import CloudTarget
from leanto.policy.verdict import TARGETS
from leanto.request import Ask
from leanto.signals import Snapshot

if TYPE_CHECKING:
    from leanto.cascade import Cascade


@dataclass(frozen=True, slots=True)
class Situation:
    """All that a decision is made from. `edge_build` names the local model; `started` is when, in seconds of the monotonic clock."""

    policy: Policy
    request: Ask
    facts: Facts
    spent: Spent
    snapshot: Snapshot
    edge_build: str
    started: float

    def decide(self) -> Verdict:
        """What follows before a token is spent."""
        return decide(self.policy, self.facts, self.snapshot, self.spent)


def record(
    seen: Situation, verdict: Verdict, route: str, at: float, audit: Check | None = None, promise: Promise | None = None
) -> Decision:
    """The decision so far, made at `at` (seconds since the epoch), with what the `audit` says and what is promised, if it comes to that."""
    return Decision(
        request_id=secrets.token_hex(8),
        policy_hash=seen.policy.hash,
        edge_build=seen.edge_build,
        cloud_model=None,
        task=seen.request.task,
        privacy=seen.request.privacy,
        snapshot=seen.snapshot,
        checks=every_stage((*verdict.checks, audit) if audit else verdict.checks, promise),
        route=route,
        labels=verdict.labels,
        facts=seen.facts,
        spent=seen.spent,
        decided_at=at,
    )


def settle(
    seen: Situation, run: Cascade, ended: BaseException | Check, *, at: float, now: float, energy_j: float | None, energy_source: str
) -> Decision:
    """The decision with its account, at the end of `run`: what it `ended` with was an error, or an answer and what the audit says of it.
    `now` in seconds of the monotonic clock, `energy_j` in joules."""
    sure, first = run.confidence, run.first_text_at
    audit = ended if isinstance(ended, Check) else None
    seen = replace(seen, spent=run.refused or seen.spent)
    return replace(
        record(seen, run.verdict, run.route, at, audit, run.promise if sure else None),
        cloud_model=run.cloud_model,
        cloud_evidence=run.cloud_evidence,
        confidence=sure.value if sure else None,
        artifact_threshold=sure.threshold if sure else None,
        promise=run.promise if sure else None,
        calibrated=sure is not None and sure.calibrated,
        ece=sure.ece if sure else None,
        switches=run.switches,
        local_tokens=run.local_tokens,
        cloud_tokens=run.cloud_tokens,
        wasted_tokens=run.local_tokens + run.cloud_tokens - run.kept_tokens,
        usd=price(seen.policy, seen.facts.prompt_tokens * run.cloud_calls, run.cloud_tokens),
        bytes_sent=run.bytes_sent,
        bytes_received=run.bytes_received,
        ttft_ms=None if first is None else 1000 * (first - seen.started),
        total_ms=1000 * (now - seen.started),
        energy_j=energy_j,
        energy_source=energy_source if energy_j is not None else "",
        wasted_j=None if energy_j is None else energy_j * (run.local_tokens - run.kept_local_tokens) / max(1, run.local_tokens),
        audited=audit is not None and audit.verdict == "pass",
        error=None if isinstance(ended, Check) else _named(ended),
    )


def every_stage(checks: tuple[Check, ...], promise: Promise | None = None) -> tuple[Check, ...]:
    """The checks in their order, and for each stage that had nothing to compare one that says so; `promise` is that of a local answer."""
    told = list(checks)
    seen = {check.stage for check in checks}
    for stage, (name, reason) in _NOTHING.items():
        if stage not in seen:
            later = STAGES[STAGES.index(stage) + 1 :]
            place = next((i for i, check in enumerate(told) if check.stage in later), len(told))
            allowed = told[place - 1].allowed_after if place else TARGETS
            why = promise.why_not if promise and stage == "certificate" else reason
            told.insert(place, Check(stage, name, None, None, "skipped", allowed, why))
    return tuple(told)


_NOTHING: dict[Stage, tuple[str, str]] = {
    "prompt": ("router", "the policy names none"),
    "stream": ("evidence", "nothing to watch: no local answer, or no cloud to turn to"),
    "answer": ("confidence", "no local answer was finished"),
    "certificate": ("certificate", "no local answer was finished"),
    "audit": ("share", "no answer to ask again"),
}


def _named(failure: BaseException) -> str:
    """Closing a stream, cancelling a task and Ctrl-C are no errors in Python; all of them leave without the answer."""
    return type(failure).__name__ if isinstance(failure, Exception) else CANCELLED


def price(policy: Policy, prompt_tokens: int, answer_tokens: int) -> float:
    """What the cloud's tokens cost, in US dollars, by the policy's prices."""
    cloud = policy.cloud or CloudTarget()
    return (prompt_tokens * cloud.usd_per_million_prompt_tokens + answer_tokens * cloud.usd_per_million_answer_tokens) / 1e6
