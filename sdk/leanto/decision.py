"""The record of one request: every check with its value, threshold and verdict, the route taken, and what it cost.

Frozen values, and never the text of a prompt or an answer. Knows nothing of how the decision was reached.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from leanto.ledger import Spending
from leanto.signals import Snapshot

Target = Literal["local", "cloud"]
Stage = Literal["constraints", "rules", "budgets", "prompt", "stream", "answer", "certificate", "audit", "offline"]
STAGES: tuple[Stage, ...] = get_args(Stage)[:-1]  # in their order; "offline" may come anywhere
Outcome = Literal["pass", "veto", "waived", "moot", "unknown", "pending", "skipped"]
Value = str | float | int | bool | None
CANCELLED = "cancelled"

SAMPLED = "the answer is sampled, and certificates speak of greedy ones (temperature 0)"  # why nothing is promised of it


@dataclass(frozen=True, slots=True)
class Check:
    """One comparison. `allowed_after` are the targets left after it; it never holds one that was gone before, but for the stage
    "offline": the cloud failed, or a budget of it was used up meanwhile, and the edge is back as the last resort if no hard constraint
    speaks against it.

    Verdicts: "pass"; "veto" removed a target; "waived" would have removed the last one; "moot" would have removed one that was gone;
    "unknown" had no value to compare; "pending" is measured while generating; "skipped" had nothing to do. `flip` is the value that would
    have turned the verdict.
    """

    stage: Stage
    name: str
    value: Value
    threshold: Value
    verdict: Outcome
    allowed_after: tuple[Target, ...]
    reason: str = ""
    flip: str = ""


@dataclass(frozen=True, slots=True)
class Facts:
    """What a decision may know of a request and of the two targets. `prompt_tokens` counts the edge's own tokens;
    `prompt_score` is what the policy's router makes of the prompt: P(the local answer is not worse than the cloud's).
    `turns_since_cloud` is 1 where the cloud took over a conversation one turn before this one, None where it did not yet.
    `tool_caller` answered the turn that called the tool whose result this prompt is, None where it is none.
    `expected_local_ms` is what an answer takes the edge by its last ones: see leanto.local.pace. `router` and `score` name that router and
    the edge's confidence for the task, so that a replay can tell them from others;
    `edge_low_floor` and `edge_probe_floor` are the model's own for `handoff.low_floor` and `handoff.probe_floor`."""

    task: str
    privacy: str
    prompt_tokens: int
    edge_tasks: tuple[str, ...]
    context_length: int
    cloud_configured: bool
    edge_fit: bool = True
    prompt_score: float | None = None
    turns_since_cloud: int | None = None
    expected_local_ms: float | None = None
    router: str | None = None
    score: str | None = None
    edge_low_floor: float | None = None
    tool_caller: Target | None = None
    edge_probe_floor: float | None = None


@dataclass(frozen=True, slots=True)
class Promise:
    """That at most `alpha` of the answers with a score from `threshold` on are a case of `event` (see
    `certificates.agreement.EVENTS`), with confidence 1 − `delta`.

    `threshold` None promises nothing, and `why_not` says why; `named` where there is a certificate all the same, and `broken` where that
    is the audit's finding, which no score outweighs.
    `audit` names the record of audits that watches it; `alarms` were raised on looser thresholds of the same certificate before.
    """

    threshold: float | None = None
    why_not: str = "there is none"
    named: bool = False
    broken: bool = False
    event: str = ""
    alpha: float = 0.0
    delta: float = 0.0
    audit: str = ""
    alarms: int = 0


@dataclass(frozen=True, slots=True)
class Spent:
    """What this client has sent since it was made, and what was spent in the last day."""

    bytes_sent: int = 0
    last_day: Spending = field(default_factory=Spending)


@dataclass(frozen=True, slots=True)
class Decision:
    """Everything about one request but its words.

    `route` lists the legs that produced tokens, in order: "local", "cloud", "local→cloud", "cloud→local", …; a planned decision
    (`leanto explain`) holds the leg that would start. `confidence` is the edge's probability that its own answer is right,
    None where it did not finish one; `calibrated` says whether that is a fitted probability or a plain token average, and `ece` how far
    it was off in the mean when it was fitted (expected calibration error).
    `artifact_threshold` is the model's own threshold for it, `promise` what a certificate said. `facts` and `spent` are what was
    known beside the snapshot. `audited` says that the answer was chosen to be asked again, which is paid for on its own.
    `wasted_tokens` were generated on either side but are not part of the answer. `energy_j` comes from `energy_source` ("rapl",
    "battery", "token-estimate" or "estimate"), and `wasted_j` is the share of it that went into local tokens which are not part of the
    answer.
    `cloud_evidence` is type and digest of the evidence that the node was believed for, as "sev-snp:9f05…". `error` names what the caller
    got instead of an answer: the class of an error, or "cancelled" where nobody waited for one any more; None where there was an answer.
    """

    request_id: str
    policy_hash: str
    edge_build: str
    cloud_model: str | None
    task: str
    privacy: str
    snapshot: Snapshot
    checks: tuple[Check, ...]
    route: str
    labels: tuple[str, ...]
    facts: Facts | None = None
    spent: Spent | None = None
    confidence: float | None = None
    artifact_threshold: float | None = None
    promise: Promise | None = None
    calibrated: bool = False
    ece: float | None = None
    switches: int = 0
    local_tokens: int = 0
    cloud_tokens: int = 0
    wasted_tokens: int = 0
    usd: float = 0.0
    bytes_sent: int = 0
    bytes_received: int = 0
    ttft_ms: float | None = None
    total_ms: float = 0.0
    energy_j: float | None = None
    energy_source: str = ""
    wasted_j: float | None = None
    audited: bool = False
    decided_at: float = 0.0
    cloud_evidence: str | None = None
    error: str | None = None

    @property
    def label(self) -> str:
        """Why this route, in a few words: "confident", "low-confidence", "private", "cloud-unreachable", …"""
        return ", ".join(self.labels)

    @property
    def answer_tokens(self) -> int:
        """Tokens of the answer, whoever generated them; those wasted are not."""
        return self.local_tokens + self.cloud_tokens - self.wasted_tokens

    @property
    def first_veto(self) -> Check | None:
        """The first check that removed a target."""
        return next((check for check in self.checks if check.verdict == "veto"), None)

    def explain(self) -> str:
        """The record as text, one line a check."""
        from leanto.policy.explain import explain

        return explain(self)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; the same record, for logs and headers."""
        return {**_plain(self), "label": self.label}


_SCALARS = {str, int, float, bool, type(None)}


def _plain(value: Any) -> Any:
    """What `dataclasses.asdict` makes of frozen values, which need no copies: in a tenth of its time. Every request writes this down."""
    if isinstance(value, tuple):
        return tuple(item if type(item) in _SCALARS else _plain(item) for item in value)
    names = value.__dataclass_fields__
    return {name: found if type(found := getattr(value, name)) in _SCALARS else _plain(found) for name in names}
