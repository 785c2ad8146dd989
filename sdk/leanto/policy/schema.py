"""Policy TOML, version 1 → one frozen Policy. Strict: an unknown name, type or range is an error with file and line.

Knows nothing of requests or devices; docs/policy.md describes every name, and a test keeps the two together.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cache, cached_property
from importlib import resources
from types import MappingProxyType
from typing import Any, Literal

from leanto.decision import Target
from leanto.errors import PolicyError
from leanto.policy.evidence import TYPES, HardwareEvidence, NvidiaEvidence
from leanto.policy.fields import address, choice, integer, integers, number, option, public_key, text, texts, word_or
from leanto.policy.overrides import Override, apply
from leanto.policy.rules import Rule, RuleFault, read_rule
from leanto.policy.verdict import TARGETS

VERSION = 1
MAX_BYTES = 1 << 20
MAX_RULES = 32
SECRET = "secret"
ARTIFACT = "artifact"
RELEASE_KEY = "zduGsdy6qkT/PK00xKjeEiaFigF9Uag5xBPZDhkTACQ="
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


_INNER: Mapping[str, tuple[type[Any], tuple[str, ...]]] = {
    "log": (ReleaseLogTarget, ("key", "store")),
    "tokens": (TokensTarget, ("issuer", "origin", "store")),
    "relay": (RelayTarget, ("url", "gateway_key")),
}


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

    @cached_property
    def hash(self) -> str:
        """SHA-256 over the canonical JSON of every value, defaults included."""
        return _hash(self)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values of everything but where it came from."""
        plain = {name: asdict(part) for name in ("budgets", "quality", "handoff", "offline", "audit") if (part := getattr(self, name))}
        classes = {name: list(targets) for name, targets in self.privacy.classes.items()}
        cloud = asdict(self.cloud) if self.cloud else None
        privacy = {"default": self.privacy.default, "classes": classes}
        rules = [rule.to_dict() for rule in self.rules]
        return {"version": VERSION, "targets": {"cloud": cloud}, "privacy": privacy, **plain, "rules": rules}


@cache
def default_policy() -> Policy:
    """The policy that ships with the package: `default.toml` beside this file."""
    return parse_policy(default_text(), origin="default")


def default_text() -> str:
    """The shipped policy as written, comments and all."""
    return resources.files("leanto.policy").joinpath("default.toml").read_text(encoding="utf-8")


def parse_policy(source: str, *, origin: str = "policy", overrides: Sequence[Override] = ()) -> Policy:
    """The policy written in `source`, with some values from elsewhere. Raises PolicyError with the line where one is known."""
    try:
        document = tomllib.loads(source)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        found = re.search(r"\(at line (\d+), column \d+\)", str(error))
        line = int(found[1]) if found else len(source.splitlines()) if "at end of document" in str(error) else None
        message = re.sub(r"\s*\(at .*\)$", "", str(error)) if isinstance(error, tomllib.TOMLDecodeError) else "nested too deeply"
        raise PolicyError(f"not TOML: {message}", file=origin, line=line) from None
    apply(document, overrides)
    return _Reader(source, origin, {override.path: override.origin for override in overrides}).policy(document)


@dataclass(frozen=True, slots=True)
class _Reader:
    """Walks a parsed document, and knows where in the source a name stands."""

    source: str
    origin: str
    overridden: Mapping[tuple[str, ...], str]

    def policy(self, document: dict[str, Any]) -> Policy:
        self.only(document, (), ("version", "targets", "privacy", "budgets", "quality", "handoff", "offline", "audit", "rules"))
        if type(document.get("version")) is not int or document["version"] != VERSION:
            raise self.error(("version",), f"expected version = {VERSION} at the top, the only one this release reads")
        targets = self.table(document, (), "targets")
        self.only(targets, ("targets",), ("cloud",))
        quality = self.table(document, (), "quality")
        threshold = self.record(ConfidenceThreshold, quality, ("quality",), "confidence_threshold")
        quality = {name: value for name, value in quality.items() if name != "confidence_threshold"}
        certified: Quality = self.record(Quality, {"quality": quality}, (), "quality")
        if set(certified.certificates) - {ARTIFACT} and "certificate_key" not in quality:
            raise self.error(("quality", "certificates"), "quality.certificates: give the certificate_key that signed them, too")
        privacy = self.privacy(self.table(document, (), "privacy"))
        return Policy(
            cloud=self.cloud(targets) if "cloud" in targets else None,
            privacy=privacy,
            budgets=self.record(Budgets, document, (), "budgets"),
            quality=replace(certified, confidence_threshold=threshold),
            handoff=self.record(Handoff, document, (), "handoff"),
            offline=self.record(Offline, document, (), "offline"),
            audit=self.audit(document, privacy, certified),
            rules=self.rules(document.get("rules", [])),
            origin=self.origin,
        )

    def cloud(self, targets: dict[str, Any]) -> CloudTarget:
        table, path = self.table(targets, ("targets",), "cloud"), ("targets", "cloud")
        plain = {"cloud": {name: value for name, value in table.items() if name not in (*_INNER, "evidence")}}
        cloud: CloudTarget = self.record(CloudTarget, plain, ("targets",), "cloud")
        if not cloud.address:
            raise self.error(path, '[targets.cloud] needs address = "host:port"')
        round_ms = cloud.cadence_ms * cloud.cadence_frames
        if cloud.padding == "constant" and round_ms >= cloud.timeout_ms:
            message = f"targets.cloud.cadence_frames: no answer ends before {round_ms} ms, which is over timeout_ms = {cloud.timeout_ms}"
            raise self.error((*path, "cadence_frames"), message)
        inner = {name: self.inner(name, table, path) for name in _INNER if name in table}
        return replace(cloud, **inner, evidence=self.evidence(table, path, cloud) if "evidence" in table else None)

    def inner(self, name: str, table: dict[str, Any], where: tuple[str, ...]) -> Any:
        """A table inside the target's, all its needs named."""
        kind, needs = _INNER[name]
        inner = self.record(kind, table, where, name)
        if not all(getattr(inner, needed) for needed in needs):
            raise self.error((*where, name), f"[targets.cloud.{name}] needs {' and '.join(needs)}; docs/policy.md says what they are")
        return inner

    def evidence(self, target: dict[str, Any], where: tuple[str, ...], cloud: CloudTarget) -> HardwareEvidence:
        if cloud.development_root is not None:
            message = "a target has either development_root or [targets.cloud.evidence]: a development node proves nothing of its hardware"
            raise self.error((*where, "development_root"), message)
        table, path = self.table(target, where, "evidence"), (*where, "evidence")
        kind = TYPES.get(str(table.get("type")))
        if kind is None:
            known = ", ".join(map(repr, TYPES))
            raise self.error(
                (*path, "type"), f"[targets.cloud.evidence] needs type = one of {known}; a development node is named by its root"
            )
        plain = {name: value for name, value in table.items() if name not in ("type", "nvidia")}
        found: HardwareEvidence = self.record(kind, {"evidence": plain}, path[:-1], "evidence")
        if found.missing:
            raise self.error(path, f"[targets.cloud.evidence] needs {found.missing}: without it any node would do")
        if "nvidia" not in table:
            return found
        nvidia: NvidiaEvidence = self.record(NvidiaEvidence, table, path, "nvidia")
        if not nvidia.roots:
            raise self.error((*path, "nvidia"), "[targets.cloud.evidence.nvidia] needs roots: whose word on the GPUs counts")
        return replace(found, nvidia=nvidia)

    def privacy(self, table: dict[str, Any]) -> Privacy:
        self.only(table, ("privacy",), ("default", "classes"))
        written = self.table(table, ("privacy",), "classes")
        classes = {**DEFAULT_CLASSES, **{name: self.targets(name, value) for name, value in written.items()}}
        if classes[SECRET] != ("local",):
            raise self.error(("privacy", "classes", SECRET), 'the class secret is ["local"] and cannot be widened')
        default = table.get("default", Privacy().default)
        if not isinstance(default, str) or default not in classes:
            raise self.error(("privacy", "default"), f"privacy.default: expected one of the classes {', '.join(classes)}")
        return Privacy(default, MappingProxyType(classes))

    def audit(self, document: dict[str, Any], privacy: Privacy, quality: Quality) -> Audit:
        audit: Audit = self.record(Audit, document, (), "audit")
        closed = [name for name in audit.classes if "cloud" not in privacy.classes.get(name, ())]
        if closed:
            raise self.error(
                ("audit", "classes"), f"audit.classes: the cloud may not answer {', '.join(closed)}, so it cannot be audited there"
            )
        if audit.share and not (audit.classes and quality.certificates):
            missing = "audit.classes, whose users consented" if quality.certificates else "quality.certificates, whose promise is watched"
            raise self.error(("audit", "share"), f"audit.share needs {missing}")
        return audit

    def targets(self, name: str, value: Any) -> tuple[Target, ...]:
        known = isinstance(value, list) and all(isinstance(item, str) and item in TARGETS for item in value)
        if not known or not value:
            raise self.error(("privacy", "classes", name), f'privacy.classes.{name}: expected a list of "local" and "cloud"')
        return tuple(target for target in TARGETS if target in value)

    def rules(self, written: Any) -> tuple[Rule, ...]:
        if not isinstance(written, list) or not all(isinstance(entry, dict) for entry in written):
            raise self.error(("rules",), "rules: expected tables, each written [[rules]]")
        if len(written) > MAX_RULES:
            raise self.error(("rules",), f"there are {len(written)} rules; at most {MAX_RULES} are decided in time")
        rules: list[Rule] = []
        for entry in written:
            try:
                rules.append(read_rule(entry, rules))
            except RuleFault as fault:
                message = f"rules[{len(rules)}].{fault.key} {fault}"
                raise self.error(("rules", fault.key), message, entry=len(rules)) from None
        return tuple(rules)

    def record(self, kind: type[Any], parent: dict[str, Any], path: tuple[str, ...], name: str) -> Any:
        """The dataclass `kind` from the table `name`, each value through its field's reader."""
        table, path = self.table(parent, path, name), (*path, name)
        readers = {item.name: item.metadata["read"] for item in fields(kind) if "read" in item.metadata}
        self.only(table, path, tuple(readers))
        values = {}
        for key, value in table.items():
            try:
                values[key] = readers[key](value)
            except ValueError as error:
                raise self.error((*path, key), f"{'.'.join((*path, key))} = {_short(value)}: {error}") from None
        return kind(**values)

    def table(self, parent: dict[str, Any], path: tuple[str, ...], name: str) -> dict[str, Any]:
        value = parent.get(name, {})
        if not isinstance(value, dict):
            raise self.error((*path, name), f"{'.'.join((*path, name))}: expected a table, written [{'.'.join((*path, name))}]")
        return value

    def only(self, table: dict[str, Any], path: tuple[str, ...], allowed: tuple[str, ...]) -> None:
        for key in table:
            if key not in allowed:
                close = difflib.get_close_matches(key, allowed, n=1)
                hint = f"did you mean {close[0]!r}? " if close else ""
                where = f"[{'.'.join(path)}]" if path else "the top level"
                raise self.error((*path, key), f"unknown name {_short(key)} in {where}; {hint}allowed: {', '.join(allowed)}")

    def error(self, path: tuple[str, ...], message: str, *, entry: int = 0) -> PolicyError:
        elsewhere = next((origin for name, origin in self.overridden.items() if name[: len(path)] == path), None)
        if elsewhere is not None:
            return PolicyError(message, file=elsewhere)
        return PolicyError(message, file=self.origin, line=_line(self.source, path, entry))


def origins(source: str, policy: Policy, overrides: Sequence[Override] = ()) -> dict[str, tuple[Any, str]]:
    """Every value of a policy by its dotted name, and where it comes from: "default", "FILE:LINE" or an override's origin."""
    found: dict[str, tuple[Any, str]] = {}
    overridden = {override.path: override.origin for override in overrides}

    def walk(path: tuple[str, ...], value: Any) -> None:
        if isinstance(value, dict) and value:
            for name, part in value.items():
                walk((*path, name), part)
            return
        line = _line(source, path, exact=True)
        written = "default" if line is None or policy.origin == "default" else f"{policy.origin}:{line}"
        found[".".join(path)] = (value, overridden.get(path, written))

    walk((), policy.to_dict())
    return found


def _line(source: str, path: tuple[str, ...], entry: int = 0, *, exact: bool = False) -> int | None:
    """The line (from 1) where the name `path` is written, or that of the nearest table around it: of the tables written [[so]] the one
    with the number `entry`. For messages only.
    """
    best: tuple[int, int] | None = None
    entries = -1
    table: tuple[str, ...] = ()
    for number_, line in enumerate(source.splitlines(), start=1):
        if header := re.match(r"\s*\[+\s*([^\[\]]+?)\s*\]", line):
            table = here = _dotted(header[1])
            entries += line.lstrip().startswith("[[") and here == path[: len(here)]
        elif key := re.match(r"\s*([\w\"'.\s-]+?)\s*=", line):
            here = (*table, *_dotted(key[1]))
        else:
            continue
        if entries > entry:
            break
        if entries in (-1, entry) and here and here == path[: len(here)] and (best is None or len(here) > best[0]):
            best = (len(here), number_)
    return best[1] if best and (not exact or best[0] == len(path)) else None


def _dotted(name: str) -> tuple[str, ...]:
    return tuple(part.strip().strip("\"'") for part in name.split("."))


def _short(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 60 else shown[:57] + "…"


def _hash(policy: Policy) -> str:
    return hashlib.sha256(json.dumps(policy.to_dict(), sort_keys=True, separators=(",", ":")).encode()).hexdigest()
