"""What follows from a policy: stages in a fixed order, each only narrowing the targets, every comparison recorded.

Pure and total: it reads no clock, file or device, never raises, and never sees the text of a request.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from leanto.certificates.agreement import DISAGREEMENT, EVENTS
from leanto.decision import Facts, Promise, Spent, Target, Value
from leanto.local.degeneration import Breakdown
from leanto.policy.budgets import budget
from leanto.policy.rules import Rule, context
from leanto.policy.schema import SECRET, Policy
from leanto.policy.verdict import CLOUD, LOCAL, TARGETS, Finding, Verdict, above, below, lean, take_away
from leanto.signals import Snapshot


def decide(policy: Policy, facts: Facts, snapshot: Snapshot, spent: Spent) -> Verdict:
    """Stages 1 to 3, before a token is spent: hard constraints and the rules that are, then preferences and budgets, then the prompt."""
    verdict = _constraints(policy, facts, snapshot, Verdict())
    held = _held(policy.rules, facts, snapshot, spent)
    for rule, holds in held:
        if rule.allow:
            verdict = _allow_only(verdict, rule, holds)
    verdict = replace(verdict, constrained=verdict.allowed)
    for rule, holds in held:
        if rule.prefer:
            found, away = _rule(rule, holds, f"prefer {rule.prefer}"), CLOUD if rule.prefer == LOCAL else LOCAL
            verdict = _lean(policy, verdict, found, away=away)
    return _prompt(policy, facts, budget(policy, facts, snapshot, spent, verdict))


def judge_stream(policy: Policy, verdict: Verdict, mean_logprob: float | None) -> Verdict:
    """Stage 4, while generating: the mean logprob (nats) of the last `handoff.window` tokens against the floor."""
    floor = policy.handoff.stream_floor
    fails = None if mean_logprob is None or floor is None else not mean_logprob >= floor  # NaN is no reason to trust
    name = f"mean_logprob_{policy.handoff.window}"
    reason = "the worst window of the answer" if mean_logprob is not None else "the answer is shorter than a window"
    flip = below(mean_logprob, floor)
    return _lean(policy, verdict, Finding("stream", name, mean_logprob, floor, fails, "doubt-in-stream", reason, flip))


def judge_low(policy: Policy, verdict: Verdict, low_logprob: float | None, artifact_floor: float | None) -> Verdict:
    """Stage 4 again: the low logprob (nats; see leanto.local.low_logprob) of the answer so far against its floor, where there is one."""
    floor = low_floor(policy, artifact_floor)
    if floor is None:
        return verdict
    fails = None if low_logprob is None else not low_logprob >= floor
    reason, flip = "about the lowest tenth of the answer so far", below(low_logprob, floor)
    return _lean(policy, verdict, Finding("stream", "low_logprob", low_logprob, floor, fails, "doubt-in-stream", reason, flip))


def low_floor(policy: Policy, artifact_floor: float | None) -> float | None:
    """The policy's own, or the model's; None doubts nothing."""
    wanted = policy.handoff.low_floor
    return artifact_floor if wanted == "artifact" else wanted


def judge_breakdown(policy: Policy, verdict: Verdict, broken: Breakdown) -> Verdict:
    """Stage 4, while generating: an answer that can come to nothing any more."""
    flip = "a beginning of one" if broken.threshold is True else above(broken.value, broken.threshold)
    found = Finding("stream", broken.name, broken.value, broken.threshold, True, "doubt-in-stream", broken.reason, flip)
    return _lean(policy, verdict, found)


def judge_pace(policy: Policy, verdict: Verdict, expected_ms: float) -> Verdict:
    """Stage 4, while generating: what the edge would take for this answer, by the speed of its tokens so far, against the deadline."""
    deadline, reason = policy.budgets.deadline_ms, "what this answer would take the edge, by its tokens so far"
    flip = above(expected_ms, deadline)
    return _lean(policy, verdict, Finding("stream", "local_ms", expected_ms, deadline, expected_ms > deadline, "too-slow", reason, flip))


def judge_answer(
    policy: Policy, verdict: Verdict, task: str, confidence: float, artifact_threshold: float | None, promise: Promise
) -> Verdict:
    """Stage 5, after the answer: its confidence against the policy's threshold, or the model's own where the policy says so and no
    certificate says better."""
    if _certificate_decides(policy, task, promise):
        return verdict.record("answer", "confidence", confidence, None, "pass", "the certificate decides, not the model's own threshold")
    threshold = _threshold(policy, task, artifact_threshold)
    if threshold is None:
        reason = "no calibrated threshold for this task: kept"
        return verdict.label("uncalibrated").record("answer", "confidence", confidence, None, "unknown", reason)
    fails = not confidence >= threshold
    if not fails:
        verdict = verdict.label("confident")
    reason = "probability that the local answer is right"
    flip = below(confidence, threshold)
    return _lean(policy, verdict, Finding("answer", "confidence", confidence, threshold, fails, "low-confidence", reason, flip))


def judge_certificate(policy: Policy, verdict: Verdict, confidence: float, promise: Promise) -> Verdict:
    """Stage 6: the certified threshold, or, where no certificate holds, what the policy says of that."""
    if promise.threshold is not None:
        reason = f"answers above it {EVENTS.get(promise.event, EVENTS['worse'])} as seldom as was promised"
        if policy.audit.share and promise.event != DISAGREEMENT:
            reason = f"{reason}; no audit watches that, for it sees disagreement only"
        if promise.alarms:
            verdict, reason = verdict.label("tightened"), f"{reason}; the audit raised it (alarms: {promise.alarms})"
        fails, flip = not confidence >= promise.threshold, below(confidence, promise.threshold)
        found = Finding("certificate", "confidence", confidence, promise.threshold, fails, "below-certificate", reason, flip)
        return _lean(policy, verdict if fails else verdict.label("certified"), found)
    if not _leans_uncertified(policy, promise):
        return _go_without(verdict, promise)
    label, reason = "audit-alarm" if promise.broken else "uncertified", f"no certificate: {promise.why_not}"
    return _lean(policy, verdict, Finding("certificate", "certificate", False, True, True, label, reason, "one that holds"))


def judge_structure(policy: Policy, verdict: Verdict, valid: bool) -> Verdict:
    """Stage 5, for calls: an answer that is not one JSON call is worth nothing."""
    reason, flip = "the answer must be one JSON call", "no call" if valid else "a call"
    return _lean(policy, verdict, Finding("answer", "valid_call", valid, True, not valid, "invalid-call", reason, flip))


def foresee(
    policy: Policy, verdict: Verdict, task: str, artifact_threshold: float | None, promise: Promise, artifact_floor: float | None = None
) -> Verdict:
    """The checks still to come where the edge would start, as "pending"."""
    if verdict.start != LOCAL:
        return verdict
    handoff = policy.handoff
    verdict = verdict.record("stream", f"mean_logprob_{handoff.window}", None, handoff.stream_floor, "pending", "measured while generating")
    floor = low_floor(policy, artifact_floor)
    if floor is not None:
        verdict = verdict.record("stream", "low_logprob", None, floor, "pending", "measured while generating")
    threshold = None if _certificate_decides(policy, task, promise) else _threshold(policy, task, artifact_threshold)
    verdict = verdict.record("answer", "confidence", None, threshold, "pending", "measured when the answer is complete")
    if promise.threshold is None and not _leans_uncertified(policy, promise):
        return _go_without(verdict, promise)
    reason = "measured when the answer is complete" if promise.threshold is not None else f"no certificate: {promise.why_not}"
    return verdict.record("certificate", "confidence", None, promise.threshold, "pending", reason)


def stay(verdict: Verdict, name: str, value: Value, threshold: Value, label: str, reason: str) -> Verdict:
    """A hand-off is not possible any more: the request stays on the edge, whatever is found later."""
    return verdict.remove(CLOUD, label).record("stream", name, value, threshold, "veto", reason)


def without_edge(verdict: Verdict, label: str, reason: str) -> Verdict:
    """The edge failed in this request: it is out, as a last resort too."""
    left = verdict.remove(LOCAL, label)
    left = replace(left, constrained=tuple(target for target in verdict.constrained if target != LOCAL))
    return left.record("stream", "edge", label, None, "veto", reason)


def after_fault(policy: Policy, verdict: Verdict, label: str, reason: str, *, again: bool = False) -> Verdict:
    """The cloud failed in this request: what the hard constraints allow, if the policy takes a best effort.

    `again` keeps the cloud for one more hand-off later in the same request.
    """
    best_effort = LOCAL in verdict.constrained and policy.offline.mode == "local_best_effort"
    allowed = tuple(target for target in verdict.constrained if target == LOCAL or again) if best_effort else ()
    fallen = replace(verdict, allowed=allowed, offline=True).label(label)
    return fallen.record("offline", "cloud", label, policy.offline.mode, "veto", reason, "an answer")


def _constraints(policy: Policy, facts: Facts, snapshot: Snapshot, verdict: Verdict) -> Verdict:
    def hard(name: str, value: Value, threshold: Value, fails: bool | None, label: str, reason: str, flip: str) -> Finding:
        return Finding("constraints", name, value, threshold, fails, label, reason, flip)

    allows = (LOCAL,) if facts.privacy == SECRET else policy.privacy.classes.get(facts.privacy, (LOCAL,))
    listed, tasks, length = ", ".join(allows), ", ".join(facts.edge_tasks), facts.context_length
    closed, reason = CLOUD not in allows, "where this class may be answered"
    flip = "a class that allows the cloud" if closed else "a class that does not"
    verdict = take_away(verdict, CLOUD, hard("privacy", facts.privacy, listed, closed, "private", reason, flip))
    if LOCAL not in allows:
        flip = "a class that allows the edge"
        verdict = take_away(verdict, LOCAL, hard("privacy_local", facts.privacy, listed, True, "cloud-only", "not on this device", flip))
    missing, reason = not facts.cloud_configured, "a cloud target must be configured"
    verdict = take_away(verdict, CLOUD, hard("cloud_target", not missing, True, missing, "no-cloud", reason, str(missing).lower()))
    down = None if snapshot.link == "unknown" else snapshot.link == "down"
    unreachable = CLOUD in verdict.allowed and down is True
    found = hard("link", snapshot.link, "up", down, "offline", "the cloud needs a link", "" if down is None else "up" if down else "down")
    verdict = replace(take_away(verdict, CLOUD, found), offline=unreachable)
    unable = facts.task not in facts.edge_tasks
    flip = "a task that it knows" if unable else "another task"
    verdict = take_away(verdict, LOCAL, hard("edge_task", facts.task, tasks, unable, "edge-cannot", "what the edge model can do", flip))
    too_long, flip = facts.prompt_tokens >= length, above(facts.prompt_tokens, length - 1)
    return take_away(verdict, LOCAL, hard("prompt_tokens", facts.prompt_tokens, length, too_long, "too-long", "the edge's context", flip))


def _held(rules: tuple[Rule, ...], facts: Facts, snapshot: Snapshot, spent: Spent) -> list[tuple[Rule, bool | None]]:
    """Every rule with the value of its condition."""
    if not rules:
        return []
    values = context(
        {
            "task": facts.task,
            "privacy": facts.privacy,
            "prompt_tokens": facts.prompt_tokens,
            "context_length": facts.context_length,
            "edge_fit": facts.edge_fit,
            "battery_percent": snapshot.battery_percent,
            "plugged": snapshot.plugged,
            "cpu_load": snapshot.cpu_load,
            "memory_available_bytes": snapshot.memory_available_bytes,
            "temperature_c": snapshot.temperature_c,
            "link": snapshot.link,
            "battery_power_w": snapshot.battery_power_w,
            "memory_pressure": snapshot.memory_pressure,
            "throttled": snapshot.throttled,
            "metered": snapshot.metered,
            "rtt_ms": snapshot.rtt_ms,
            "bytes_sent": spent.bytes_sent,
        }
    )
    return [(rule, rule.holds(values)) for rule in rules]


def _rule(rule: Rule, holds: bool | None, reason: str) -> Finding:
    fails = rule.unknown == "apply" if holds is None else holds
    turned = "a value" if holds is None else str(not holds).lower()
    return Finding("rules", rule.name, holds, rule.condition, fails, f"rule:{rule.name}", reason, turned)


def _allow_only(verdict: Verdict, rule: Rule, holds: bool | None) -> Verdict:
    found = _rule(rule, holds, f"allow {', '.join(rule.allow)}")
    barred: list[Target] = [target for target in TARGETS if target not in rule.allow]
    for target in barred:
        verdict = take_away(verdict, target, found)
    return verdict if barred else verdict.record("rules", rule.name, holds, rule.condition, "pass", found.reason)


def _prompt(policy: Policy, facts: Facts, verdict: Verdict) -> Verdict:
    """Whether a local try is worth its energy: where the policy has a router, and in a conversation that the cloud has taken over. A
    tool's result stays where the tool was called."""
    if policy.handoff.sticky_tool_loop and (caller := facts.tool_caller) is not None:
        may, other = caller in verdict.allowed, LOCAL if caller == CLOUD else CLOUD
        reason = "who called the tool whose result this is"
        found = Finding("prompt", "tool_caller", caller, caller if may else None, may, "sticky", reason, "another prompt than its result")
        verdict = _lean(policy, verdict, found, away=other)
    kept, since = policy.handoff.sticky_turns, facts.turns_since_cloud
    if kept and since is not None:
        reason = "turns since the cloud took over this conversation"
        found = Finding("prompt", "turns_since_cloud", since, kept, since <= kept, "sticky", reason, above(since, kept))
        verdict = _lean(policy, verdict, found)
    if policy.quality.router is None:
        return verdict
    score, floor = facts.prompt_score, policy.quality.router_floor
    hopeless = None if score is None else not score >= floor
    reason = "probability that the local answer will do, by the prompt alone"
    return _lean(policy, verdict, Finding("prompt", "router", score, floor, hopeless, "hopeless-prompt", reason, below(score, floor)))


def _lean(policy: Policy, verdict: Verdict, found: Finding, *, away: Target = LOCAL) -> Verdict:
    return lean(verdict, found, policy.offline.mode, away=away)


def _threshold(policy: Policy, task: str, artifact_threshold: float | None) -> float | None:
    """What a finished answer's confidence is held against; None where nothing is calibrated."""
    wanted: float | Literal["artifact"] = getattr(policy.quality.confidence_threshold, task)
    return artifact_threshold if wanted == "artifact" else wanted


def _certificate_decides(policy: Policy, task: str, promise: Promise) -> bool:
    """Whether the certified threshold stands in for the model's own."""
    return promise.threshold is not None and getattr(policy.quality.confidence_threshold, task) == "artifact"


def _leans_uncertified(policy: Policy, promise: Promise) -> bool:
    """Whether the cloud is to answer where no certificate holds."""
    return promise.broken or policy.quality.uncertified == "cloud"


def _go_without(verdict: Verdict, promise: Promise) -> Verdict:
    """The confidence alone decides; that a certificate was there and does not hold is told."""
    if not promise.named:
        return verdict
    reason = f"no certificate: {promise.why_not}; the confidence alone decides"
    return verdict.label("uncertified").record("certificate", "certificate", False, None, "pass", reason)
