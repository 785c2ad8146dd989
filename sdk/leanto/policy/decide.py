"""What follows from a policy: stages in a fixed order, each only narrowing the targets, every comparison recorded.

Pure and total: it reads no clock, file or device, never raises, and never sees the text of a request.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any, Literal

from leanto.certificates.agreement import DISAGREEMENT, EVENTS
from leanto.decision import Facts, Promise, Spent, Target, Value
from leanto.local.degeneration import Breakdown
from leanto.policy.budgets import budget
from leanto.policy.condition import context, evaluate
from leanto.policy.rules import Rule
from leanto.policy.schema import SECRET, Policy
from leanto.policy.verdict import CLOUD, LOCAL, TARGETS, Finding, Verdict, above, below, lean, take_away
from leanto.signals import Link, Snapshot


def decide(policy: Policy, facts: Facts, snapshot: Snapshot, spent: Spent) -> Verdict:
    """Stages 1 to 3, before a token is spent: hard constraints and the rules that are, then preferences and budgets, then the prompt."""
    allows = (LOCAL,) if facts.privacy == SECRET else policy.privacy.classes.get(facts.privacy, (LOCAL,))
    request = (facts.privacy, facts.task, facts.prompt_tokens)
    verdict = _constraints(policy.closed, allows, *request, facts.edge_tasks, facts.context_length, facts.cloud_configured, snapshot.link)
    values = _values(policy, facts, snapshot, spent) if policy.rules else None
    verdict = _ruled(policy, verdict, policy.allowing, values)
    verdict = replace(verdict, constrained=verdict.allowed)
    verdict = _ruled(policy, verdict, policy.preferring, values)
    return _prompt(policy, facts, budget(policy, facts, snapshot, spent, verdict))


def judge_probe(policy: Policy, verdict: Verdict, foreseen: float, artifact_floor: float | None) -> Verdict:
    """Stage 3 again, once the edge has read the prompt: what a probe of its hidden state makes of the answer to come."""
    floor = own_or(policy.handoff.probe_floor, artifact_floor)
    if floor is None:
        return verdict
    reason, flip = "probability that the answer will be right, by the model's state behind the prompt", below(foreseen, floor)
    return _lean(policy, verdict, Finding("prompt", "probe", foreseen, floor, not foreseen >= floor, "hopeless-prompt", reason, flip))


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
    floor = own_or(policy.handoff.low_floor, artifact_floor)
    if floor is None:
        return verdict
    fails = None if low_logprob is None else not low_logprob >= floor
    reason, flip = "about the lowest tenth of the answer so far", below(low_logprob, floor)
    return _lean(policy, verdict, Finding("stream", "low_logprob", low_logprob, floor, fails, "doubt-in-stream", reason, flip))


def own_or(wanted: float | Literal["artifact"] | None, artifact_floor: float | None) -> float | None:
    """A floor of the policy's own, or the model's where the policy says so; None doubts nothing."""
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


def certified_score(confidence: float, *watched: tuple[float | None, float | None]) -> float:
    """What certificates are about: the confidence, or 0 of an answer that the model's own floors give up, for they are made without those.
    `watched` are what was seen and its floor."""
    given_up = any(seen is not None and floor is not None and seen < floor for seen, floor in watched)
    return 0.0 if given_up else confidence


def judge_structure(policy: Policy, verdict: Verdict, valid: bool) -> Verdict:
    """Stage 5, for calls: an answer that is not one JSON call is worth nothing."""
    reason, flip = "the answer must be one JSON call", "no call" if valid else "a call"
    return _lean(policy, verdict, Finding("answer", "valid_call", valid, True, not valid, "invalid-call", reason, flip))


def foresee(policy: Policy, verdict: Verdict, facts: Facts, artifact_threshold: float | None, promise: Promise) -> Verdict:
    """The checks still to come where the edge would start, as "pending"."""
    if verdict.start != LOCAL:
        return verdict
    handoff, task = policy.handoff, facts.task
    floor = own_or(handoff.probe_floor, facts.edge_probe_floor)
    if facts.edge_probe_floor is not None and floor is not None:
        verdict = verdict.record("prompt", "probe", None, floor, "pending", "measured when the edge has read the prompt")
    verdict = verdict.record("stream", f"mean_logprob_{handoff.window}", None, handoff.stream_floor, "pending", "measured while generating")
    floor = own_or(handoff.low_floor, facts.edge_low_floor)
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


@lru_cache(maxsize=4096)
def _constraints(
    closed: str,
    allows: tuple[Target, ...],
    privacy: str,
    task: str,
    prompt_tokens: int,
    edge_tasks: tuple[str, ...],
    context_length: int,
    cloud_configured: bool,
    link: Link,
) -> Verdict:
    """What the hard constraints leave. Of all that they look at only the length of the prompt varies, so most requests find it made."""

    def hard(name: str, value: Value, threshold: Value, fails: bool | None, label: str, reason: str, flip: str) -> Finding:
        return Finding("constraints", name, value, threshold, fails, label, reason, flip)

    verdict, listed, tasks = Verdict(), ", ".join(allows), ", ".join(edge_tasks)
    private, reason = CLOUD not in allows, "where this class may be answered"
    flip = "a class that allows the cloud" if private else "a class that does not"
    verdict = take_away(verdict, CLOUD, hard("privacy", privacy, listed, private, "private", reason, flip))
    if LOCAL not in allows:
        flip = "a class that allows the edge"
        verdict = take_away(verdict, LOCAL, hard("privacy_local", privacy, listed, True, "cloud-only", "not on this device", flip))
    if closed:
        reason = "nothing leaves this device until the policy file can be taken"
        verdict = take_away(verdict, CLOUD, hard("policy_file", closed, None, True, "policy-closed", reason, "a whole policy"))
    missing, reason = not cloud_configured, "a cloud target must be configured"
    verdict = take_away(verdict, CLOUD, hard("cloud_target", not missing, True, missing, "no-cloud", reason, str(missing).lower()))
    down = None if link == "unknown" else link == "down"
    unreachable = CLOUD in verdict.allowed and down is True
    found = hard("link", link, "up", down, "offline", "the cloud needs a link", "" if down is None else "up" if down else "down")
    verdict = replace(take_away(verdict, CLOUD, found), offline=unreachable)
    unable = task not in edge_tasks
    flip = "a task that it knows" if unable else "another task"
    verdict = take_away(verdict, LOCAL, hard("edge_task", task, tasks, unable, "edge-cannot", "what the edge model can do", flip))
    too_long, flip = prompt_tokens >= context_length, above(prompt_tokens, context_length - 1)
    found = hard("prompt_tokens", prompt_tokens, context_length, too_long, "too-long", "the edge's context", flip)
    return take_away(verdict, LOCAL, found)


def _values(policy: Policy, facts: Facts, snapshot: Snapshot, spent: Spent) -> Any:
    """What the conditions of the policy's rules compare, ready for all of them."""
    values: dict[str, Value] = {
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
    return context({name: values[name] for name in policy.variables})


def _ruled(policy: Policy, verdict: Verdict, rules: Sequence[Rule], values: Any) -> Verdict:
    """Behind those rules, in their order."""
    if not rules:
        return verdict
    allowed, checks, labels = verdict.allowed, list(verdict.checks), list(verdict.labels)
    for rule in rules:
        after = _ruled_once(rule, evaluate(rule.program, values), allowed, verdict.offline, policy.offline.mode)
        allowed = after.allowed
        checks += after.checks
        labels += after.labels
    return Verdict(allowed, verdict.constrained, tuple(checks), tuple(dict.fromkeys(labels)), verdict.offline)


@lru_cache(maxsize=4096)
def _ruled_once(rule: Rule, holds: bool | None, allowed: tuple[Target, ...], offline: bool, mode: str) -> Verdict:
    """What one rule leaves of `allowed`, with its checks and its label. There are few such cases, and each request meets the same ones."""
    verdict = Verdict(allowed, offline=offline)
    reason = f"allow {', '.join(rule.allow)}" if rule.allow else f"prefer {rule.prefer}"
    flip = "a value" if holds is None else str(not holds).lower()
    found = Finding("rules", rule.name, holds, rule.condition, rule.applies(holds), f"rule:{rule.name}", reason, flip)
    if rule.prefer:
        return lean(verdict, found, mode, away=CLOUD if rule.prefer == LOCAL else LOCAL)
    barred: list[Target] = [target for target in TARGETS if target not in rule.allow]
    for target in barred:
        verdict = take_away(verdict, target, found)
    return verdict if barred else verdict.record("rules", rule.name, holds, rule.condition, "pass", reason)


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
