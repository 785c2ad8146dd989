"""What follows from a policy: stages in a fixed order, each only narrowing the targets, every comparison recorded.

Pure and total: it reads no clock, file or device, never raises, and never sees the text of a request.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from leanto.decision import Check, Outcome, Stage, Target, Value
from leanto.policy.schema import SECRET, TARGETS, Policy
from leanto.signals import Snapshot

LOCAL: Target = "local"
CLOUD: Target = "cloud"


@dataclass(frozen=True, slots=True)
class Facts:
    """What a decision may know of a request and of the two targets. `prompt_tokens` counts the edge's own tokens."""

    task: str
    privacy: str
    prompt_tokens: int
    edge_tasks: tuple[str, ...]
    context_length: int
    cloud_configured: bool
    edge_fit: bool = True


@dataclass(frozen=True, slots=True)
class Ledger:
    """What this client has spent so far."""

    bytes_sent: int = 0


@dataclass(frozen=True, slots=True)
class Verdict:
    """The targets left, and how they came to be so.

    `constrained` is what the hard constraints left: no later step, not even a fallback, goes outside it. `offline` says that the
    cloud is missing because it cannot be reached, which is when `offline.mode` applies.
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

    def record(self, stage: Stage, name: str, value: Value, threshold: Value, outcome: Outcome, reason: str) -> Verdict:
        """The same targets, with one more line in the record."""
        return replace(self, checks=(*self.checks, Check(stage, name, value, threshold, outcome, self.allowed, reason)))

    def remove(self, target: Target, label: str) -> Verdict:
        """Without `target`."""
        left = tuple(other for other in self.allowed if other != target)
        return replace(self, allowed=left, labels=_with(self.labels, label))


def decide(policy: Policy, facts: Facts, snapshot: Snapshot, ledger: Ledger) -> Verdict:
    """Stages 1 and 2, before a token is spent: hard constraints, then budgets."""
    verdict = _constraints(policy, facts, snapshot, Verdict())
    verdict = replace(verdict, constrained=verdict.allowed)
    return _budgets(policy, facts, snapshot, ledger, verdict)


def judge_stream(policy: Policy, verdict: Verdict, mean_logprob: float | None) -> Verdict:
    """Stage 4, while generating: the mean logprob (nats) of the last `handoff.window` tokens against the floor."""
    floor = policy.handoff.stream_floor
    fails = None if mean_logprob is None or floor is None else not mean_logprob >= floor  # NaN is no reason to trust
    name = f"mean_logprob_{policy.handoff.window}"
    reason = "the worst window of the answer" if mean_logprob is not None else "the answer is shorter than a window"
    return _prefer_cloud(policy, verdict, "stream", name, mean_logprob, floor, fails, "doubt-in-stream", reason)


def judge_answer(policy: Policy, verdict: Verdict, task: str, confidence: float, artifact_threshold: float | None) -> Verdict:
    """Stage 5, after the answer: its confidence against the policy's threshold, or the model's own where the policy says so."""
    wanted = getattr(policy.quality.confidence_threshold, task)
    threshold = artifact_threshold if wanted == "artifact" else wanted
    if threshold is None:
        kept = replace(verdict, labels=_with(verdict.labels, "uncalibrated"))
        return kept.record("answer", "confidence", confidence, None, "unknown", "no calibrated threshold for this task: kept")
    fails = not confidence >= threshold
    if not fails:
        verdict = replace(verdict, labels=_with(verdict.labels, "confident"))
    reason = "probability that the local answer is right"
    return _prefer_cloud(policy, verdict, "answer", "confidence", confidence, threshold, fails, "low-confidence", reason)


def judge_structure(policy: Policy, verdict: Verdict, valid: bool) -> Verdict:
    """Stage 5, for calls: an answer that is not one JSON call is worth nothing."""
    reason = "the answer must be one JSON call"
    return _prefer_cloud(policy, verdict, "answer", "valid_call", valid, True, not valid, "invalid-call", reason)


def foresee(policy: Policy, verdict: Verdict, task: str, artifact_threshold: float | None) -> Verdict:
    """The checks still to come where the edge would start, as "pending"."""
    if verdict.start != LOCAL:
        return verdict
    handoff, wanted = policy.handoff, getattr(policy.quality.confidence_threshold, task)
    threshold = artifact_threshold if wanted == "artifact" else wanted
    name = f"mean_logprob_{handoff.window}"
    verdict = verdict.record("stream", name, None, handoff.stream_floor, "pending", "measured while generating")
    return verdict.record("answer", "confidence", None, threshold, "pending", "measured when the answer is complete")


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
    fallen = replace(verdict, allowed=allowed, offline=True, labels=_with(verdict.labels, label))
    return fallen.record("offline", "cloud", label, policy.offline.mode, "veto", reason)


def _constraints(policy: Policy, facts: Facts, snapshot: Snapshot, verdict: Verdict) -> Verdict:
    allows = (LOCAL,) if facts.privacy == SECRET else policy.privacy.classes.get(facts.privacy, (LOCAL,))
    listed, tasks = ", ".join(allows), ", ".join(facts.edge_tasks)
    verdict = _hard(verdict, "privacy", facts.privacy, listed, CLOUD, CLOUD not in allows, "private", "where this class may be answered")
    if LOCAL not in allows:
        verdict = _hard(verdict, "privacy_local", facts.privacy, listed, LOCAL, True, "cloud-only", "not on this device")
    configured = facts.cloud_configured
    verdict = _hard(verdict, "cloud_target", configured, True, CLOUD, not configured, "no-cloud", "a cloud target must be configured")
    down = None if snapshot.link == "unknown" else snapshot.link == "down"
    unreachable = CLOUD in verdict.allowed and down is True
    verdict = replace(_hard(verdict, "link", snapshot.link, "up", CLOUD, down, "offline", "the cloud needs a link"), offline=unreachable)
    unable = facts.task not in facts.edge_tasks
    verdict = _hard(verdict, "edge_task", facts.task, tasks, LOCAL, unable, "edge-cannot", "what the edge model can do")
    too_long = facts.prompt_tokens >= facts.context_length
    return _hard(verdict, "prompt_tokens", facts.prompt_tokens, facts.context_length, LOCAL, too_long, "too-long", "the edge's context")


def _budgets(policy: Policy, facts: Facts, snapshot: Snapshot, ledger: Ledger, verdict: Verdict) -> Verdict:
    budgets = policy.budgets
    verdict = _egress(budgets.cloud_bytes_per_session, ledger.bytes_sent, verdict)
    if not facts.edge_fit:
        reason = "the edge model came out of its compression broken: its confidence means nothing"
        verdict = _prefer_cloud(policy, verdict, "budgets", "edge_fit", False, True, True, "unfit", reason)
    charge, floor = snapshot.battery_percent, budgets.battery_floor_percent
    low = None if charge is None else charge < floor and snapshot.plugged is not True
    reason = "unplugged and low: leaning saves energy"
    verdict = _prefer_cloud(policy, verdict, "budgets", "battery_percent", charge, floor, low, "battery", reason)
    heat, most = snapshot.temperature_c, budgets.max_temperature_c
    hot = None if heat is None else heat > most
    verdict = _prefer_cloud(policy, verdict, "budgets", "temperature_c", heat, most, hot, "temperature", "the hottest sensor")
    load, full = snapshot.cpu_load, budgets.max_cpu_load
    busy = None if load is None else full is not None and load > full
    return _prefer_cloud(policy, verdict, "budgets", "cpu_load", load, "off" if full is None else full, busy, "load", "run queue per CPU")


def _egress(limit: int | None, sent: int, verdict: Verdict) -> Verdict:
    """Sealed bytes this client has sent. Spent, the cloud is out for good, even as the only target."""
    shown: Value = "unlimited" if limit is None else limit
    if limit is None or sent < limit or CLOUD not in verdict.allowed:
        return verdict.record("budgets", "bytes_sent", sent, shown, "pass", "sealed bytes sent by this client")
    closed = replace(verdict, constrained=tuple(target for target in verdict.constrained if target != CLOUD))
    return closed.remove(CLOUD, "egress-spent").record("budgets", "bytes_sent", sent, shown, "veto", "sealed bytes sent by this client")


def _hard(
    verdict: Verdict, name: str, value: Value, threshold: Value, target: Target, fails: bool | None, label: str, reason: str
) -> Verdict:
    """A constraint that removes `target` when it fails, even the last one. A target already gone cannot be vetoed again."""
    if fails is None:
        return verdict.record("constraints", name, value, threshold, "unknown", f"{reason}; unknown counts as passed")
    if not fails or target not in verdict.allowed:
        return verdict.record("constraints", name, value, threshold, "moot" if fails else "pass", reason)
    return verdict.remove(target, label).record("constraints", name, value, threshold, "veto", reason)


def _prefer_cloud(
    policy: Policy,
    verdict: Verdict,
    stage: Stage,
    name: str,
    value: Value,
    threshold: Value,
    fails: bool | None,
    label: str,
    reason: str,
) -> Verdict:
    """A wish to answer in the cloud: removes the edge if the cloud is left; else the edge stays, labelled, or fails when told to."""
    if fails is None:
        return verdict.record(stage, name, value, threshold, "unknown", reason)
    if not fails or LOCAL not in verdict.allowed:
        return verdict.record(stage, name, value, threshold, "moot" if fails else "pass", reason)
    if CLOUD in verdict.allowed or (verdict.offline and policy.offline.mode == "fail"):
        return verdict.remove(LOCAL, label).record(stage, name, value, threshold, "veto", reason)
    kept = replace(verdict, labels=_with(verdict.labels, label))
    return kept.record(stage, name, value, threshold, "waived", f"{reason}; kept, there is no other target")


def _with(labels: tuple[str, ...], label: str) -> tuple[str, ...]:
    return labels if label in labels else (*labels, label)
