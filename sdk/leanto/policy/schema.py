"""What a policy may say, version 1: every option with its default, its range and its meaning. One frozen Policy.

Knows nothing of files, requests or devices; `reader.py` makes a Policy of TOML, docs/policy.md is generated from the options.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from types import MappingProxyType
from typing import Any, Literal

from leanto.decision import Target
from leanto.policy.evidence import HardwareEvidence
from leanto.policy.fields import address, choice, flag, integer, integers, number, option, public_key, text, texts, word_or
from leanto.policy.rules import Rule

VERSION = 1
SECRET = "secret"
ARTIFACT = "artifact"
RELEASE_KEY = "+wHqsDSfkxYY/uEtfEq0N5hXRtBULXfZZgAynKn4WkY="
DEFAULT_CLASSES: Mapping[str, tuple[Target, ...]] = MappingProxyType(
    {"public": ("local", "cloud"), "personal": ("local", "cloud"), SECRET: ("local",)}
)


@dataclass(frozen=True, slots=True)
class ReleaseLogTarget:
    """The log in which the node's release must stand."""

    key: str = option("", text, "its key, name+id+base64, as `leanto-cloud release` prints it")
    store: str = option("", text, "the file that keeps the last checkpoint")
    witnesses: tuple[str, ...] = option((), texts, "the keys of those who must have cosigned")
    quorum: int = option(0, integer(0, 64), "how many of them")
    tiles: str | None = option(None, text, "the log's address, needed once it has grown: https://…")


@dataclass(frozen=True, slots=True)
class TokensTarget:
    """Where the one-time tokens come from that the node asks for."""

    issuer: str = option("", text, "the issuer's address: https://…")
    origin: str = option("", text, "the name of the node that they are for, as it was started with")
    store: str = option("", text, "the file that keeps them")
    account_env: str = option("LEANTO_TOKEN_ACCOUNT", text, "the environment variable that holds the account's key")
    batch: int = option(32, integer(1, 256), "tokens fetched at once, ahead of need")
    name: str | None = option(None, text, "the issuer's own name; none is the host of its address")
    keys: tuple[str, ...] = option((), texts, "SHA-256 (hex) of the keys that it may sign with; none are those it lists")


@dataclass(frozen=True, slots=True)
class RelayTarget:
    """The relay that hides who asks."""

    url: str = option("", text, "its address: https://…; the node's own is then not dialled")
    gateway_key: str = option("", text, "the key of the gateway behind it, as `leanto-cloud gateway` prints it")


@dataclass(frozen=True, slots=True)
class CloudTarget:
    """Where to lean, and what must vouch for the node: a development root, or evidence of its hardware. Never both."""

    address: str = option("", address, 'the private compute node, "host:port"')
    development_root: str | None = option(None, public_key, "pinned root of a development node (base64, 32 bytes)")
    tls_root_certificates: str | None = option(
        None, word_or("system", text, None), "PEM file of the roots for TLS; a loopback address is dialled without TLS unless it is given"
    )
    timeout_ms: int = option(10_000, integer(1, 600_000), "longest time for one call to the node")
    model: str | None = option(None, text, "the model that answers there, to which certificates are bound")
    usd_per_million_prompt_tokens: float = option(0.0, number(0, 1e6), "price of what it reads")
    usd_per_million_answer_tokens: float = option(0.0, number(0, 1e6), "price of what it writes")
    tls_client_certificate: str | None = option(None, text, "PEM certificate that this client shows a node with mutual TLS")
    tls_client_key: str | None = option(None, text, "its PEM private key")
    hedge_after_ms: int | None = option(
        None, word_or("off", integer(1, 600_000), None), "an answer that has not begun by then is asked for over a second connection too"
    )
    padding: Literal["blocks", "buckets", "constant"] = option(
        "blocks", choice("blocks", "buckets", "constant"), "what sizes and times may tell whoever watches the line; docs/wire.md, Frames"
    )
    cadence_ms: int = option(50, integer(5, 1000), "constant: time from one frame of an answer to the next")
    cadence_frames: int = option(32, integer(1, 1024), "constant: an answer is a multiple of so many frames")
    suites: tuple[int, ...] = option((1,), integers(1, 2), "numbers of the suites that the node may serve; docs/wire.md, Sealing")
    log: ReleaseLogTarget | None = None
    evidence: HardwareEvidence | None = None
    tokens: TokensTarget | None = None
    relay: RelayTarget | None = None


@dataclass(frozen=True, slots=True)
class Privacy:
    """Which class may be answered where."""

    default: str = option("personal", text, "the class of a request that names none")
    classes: Mapping[str, tuple[Target, ...]] = field(default_factory=lambda: DEFAULT_CLASSES)


@dataclass(frozen=True, slots=True)
class Budgets:
    """Limits on time, device and egress."""

    deadline_ms: int = option(30_000, integer(1, 3_600_000), "from the call to the last token")
    battery_floor_percent: float = option(15.0, number(0, 100), "below it and unplugged, no local generation if the cloud may answer")
    max_temperature_c: float = option(90.0, number(0, 150), "above it, no local generation if the cloud may answer")
    max_cpu_load: float | None = option(
        None, word_or("off", number(0, 10_000), None), 'run queue per CPU above which there is none either; or "off"'
    )
    max_memory_pressure: float | None = option(
        None, word_or("off", number(0, 1), None), 'share of the time waited for memory above which there is none either; or "off"'
    )
    max_rtt_ms: float | None = option(
        None, word_or("off", number(0, 3_600_000), None), 'time to the cloud and back above which the edge answers if it may; or "off"'
    )
    metered_link: Literal["use", "spare"] = option(
        "use", choice("use", "spare"), "where bytes cost money: lean all the same, or answer locally if the edge may"
    )
    unknown_signals: Literal["pass", "fail"] = option(
        "pass", choice("pass", "fail"), "what the limits above mean where no source can tell: nothing, or that they are passed over"
    )
    cloud_bytes_per_session: int | None = option(
        None, word_or("unlimited", integer(0, 2**50), None), "sealed bytes one client may send; beyond it, local only"
    )
    cloud_bytes_per_day: int | None = option(None, word_or("unlimited", integer(0, 2**50), None), "the same in 24 hours, by the ledger")
    cloud_calls_per_day: int | None = option(None, word_or("unlimited", integer(0, 2**31), None), "calls of the cloud in 24 hours")
    cloud_usd_per_day: float | None = option(
        None, word_or("unlimited", number(0, 1e9), None), "price of its tokens in 24 hours, by the target's prices"
    )
    local_joules_per_day: float | None = option(
        None,
        word_or("unlimited", number(0, 1e12), None),
        "energy of the edge in 24 hours; beyond it, no local generation if the cloud may answer",
    )


_THRESHOLD = word_or("artifact", number(0, 1), "artifact")


@dataclass(frozen=True, slots=True)
class ConfidenceThreshold:
    """Per task: the confidence below which an answer is asked of the cloud."""

    call: float | Literal["artifact"] = option("artifact", _THRESHOLD, 'for calls; "artifact" is the calibrated one of the model')
    text: float | Literal["artifact"] = option("artifact", _THRESHOLD, "for text; a model without calibration keeps its answers")


@dataclass(frozen=True, slots=True)
class Quality:
    """When a finished local answer is good enough."""

    confidence_threshold: ConfidenceThreshold = field(default_factory=ConfidenceThreshold)
    certificates: tuple[str, ...] = option(
        (ARTIFACT,), texts, 'files of `leanto certify`, beside the policy file unless absolute; "artifact": those that the model carries'
    )
    certificate_key: str | None = option(
        RELEASE_KEY, public_key, "who must have signed them (base64, 32 bytes); the default signed those of the embedded models"
    )
    router: str | None = option(None, text, "a file of `leanto train-router`, beside the policy file unless absolute")
    router_floor: float = option(0.5, number(0, 1), "score of a prompt below which the edge does not even try, if the cloud may answer")
    uncertified: Literal["confidence", "cloud"] = option(
        "confidence", choice("confidence", "cloud"), "without a certificate that holds: go by the confidence alone, or lean"
    )


@dataclass(frozen=True, slots=True)
class Handoff:
    """How a stream changes hands."""

    hold_tokens: int = option(16, integer(0, 4096), "tokens kept back from a stream")
    stream_floor: float | None = option(
        -2.5, word_or("off", number(-100, 0), None), "windowed mean logprob (nats) below which the edge hands off"
    )
    window: int = option(16, integer(1, 4096), "tokens in that window")
    resume: Literal["prefix", "restart"] = option("prefix", choice("prefix", "restart"), "how the cloud goes on after visible text")
    max_switches: int = option(1, integer(0, 16), "hand-offs to the cloud in one request")
    sticky_turns: int = option(0, integer(0, 1000), "turns of a conversation that the cloud keeps after one that it took over")
    low_floor: float | Literal["artifact"] | None = option(
        "artifact",
        word_or("off", word_or("artifact", number(-100, 0), "artifact"), None),
        'low logprob (nats; about the lowest tenth of the tokens so far) below which it does too; "artifact" is the model\'s own; or "off"',
    )
    max_repeats: int | None = option(4, word_or("off", integer(1, 10_000), None), "times that the same 8 tokens may come in an answer")
    sticky_tool_loop: bool = option(True, flag, "a tool's result goes where the turn that called the tool was answered, if that still may")


@dataclass(frozen=True, slots=True)
class Offline:
    """What to do when the cloud was needed and is not there."""

    mode: Literal["local_best_effort", "fail"] = option(
        "local_best_effort", choice("local_best_effort", "fail"), "answer locally and say so, or fail"
    )


@dataclass(frozen=True, slots=True)
class Audit:
    """Which local answers are asked again in the cloud, to see whether a certificate keeps its promise."""

    share: float = option(0.0, number(0, 1), "of the certified answers of those classes")
    classes: tuple[str, ...] = option((), texts, "the privacy classes whose users consented")


@dataclass(frozen=True)
class Policy:
    """What may be answered where, and when to lean. `origin` is the file it came from; `hash` depends on the meaning alone."""

    cloud: CloudTarget | None = None
    privacy: Privacy = field(default_factory=Privacy)
    budgets: Budgets = field(default_factory=Budgets)
    quality: Quality = field(default_factory=Quality)
    handoff: Handoff = field(default_factory=Handoff)
    offline: Offline = field(default_factory=Offline)
    audit: Audit = field(default_factory=Audit)
    rules: tuple[Rule, ...] = ()
    origin: str = "default"

    @property
    def remembers(self) -> bool:
        """Whether it hangs on what must outlive a restart: a budget of a day, or audits."""
        days = (getattr(self.budgets, option.name) for option in fields(Budgets) if option.name.endswith("_per_day"))
        return self.audit.share > 0 or any(limit is not None for limit in days)

    @cached_property
    def hash(self) -> str:
        """SHA-256 over the canonical JSON of every value, defaults included."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":")).encode()).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values of everything but where it came from."""
        plain = {name: asdict(part) for name in ("budgets", "quality", "handoff", "offline", "audit") if (part := getattr(self, name))}
        classes = {name: list(targets) for name, targets in self.privacy.classes.items()}
        cloud = asdict(self.cloud) if self.cloud else None
        privacy = {"default": self.privacy.default, "classes": classes}
        rules = [rule.to_dict() for rule in self.rules]
        return {"version": VERSION, "targets": {"cloud": cloud}, "privacy": privacy, **plain, "rules": rules}
