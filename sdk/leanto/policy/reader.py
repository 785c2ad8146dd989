"""Policy TOML → one frozen Policy. Strict: an unknown name, type or range is an error with file and line.

Knows nothing of requests or devices; what may be said is in `schema.py`.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cache
from importlib import resources
from types import MappingProxyType
from typing import Any

from leanto.decision import Target
from leanto.errors import PolicyError
from leanto.policy.evidence import TYPES, HardwareEvidence, NvidiaEvidence
from leanto.policy.overrides import Override, apply
from leanto.policy.rules import MAX_NAME_CHARS, Rule, RuleFault, read_rule
from leanto.policy.schema import (
    ARTIFACT,
    DEFAULT_CLASSES,
    SECRET,
    VERSION,
    Audit,
    Budgets,
    CloudTarget,
    ConfidenceThreshold,
    Handoff,
    Offline,
    Policy,
    Privacy,
    Quality,
    RelayTarget,
    ReleaseLogTarget,
    TokensTarget,
)
from leanto.policy.verdict import TARGETS

MAX_BYTES = 1 << 16
MAX_DOTS = 200  # in a line: the time that tomllib takes for a name grows with their square
MAX_RULES = 32
END = "end"
_INNER: Mapping[str, tuple[type[Any], tuple[str, ...]]] = {
    "log": (ReleaseLogTarget, ("key", "store")),
    "tokens": (TokensTarget, ("issuer", "origin", "store")),
    "relay": (RelayTarget, ("url", "gateway_key")),
}


@cache
def default_policy() -> Policy:
    """The policy that ships with the package: `default.toml` beside this file."""
    return parse_policy(default_text(), origin="default")


def default_text() -> str:
    """The shipped policy as written, comments and all."""
    return resources.files("leanto.policy").joinpath("default.toml").read_text(encoding="utf-8")


def parse_policy(source: str, *, origin: str = "policy", overrides: Sequence[Override] = ()) -> Policy:
    """The policy written in `source`, with some values from elsewhere. Raises PolicyError with the line where one is known."""
    dotted = next((i for i, line in enumerate(source.split("\n"), 1) if line.count(".") > MAX_DOTS and not line.startswith("#")), None)
    if dotted is not None:
        raise PolicyError(f"has more than {MAX_DOTS} dots in one line; no name or value needs so many", file=origin, line=dotted)
    try:
        document = tomllib.loads(source)
    except (ValueError, RecursionError) as error:
        message, line = _toml_fault(source, error)
        raise PolicyError(f"not TOML: {message}", file=origin, line=line) from None
    apply(document, overrides)
    return _Reader(source, origin, {override.path: override.origin for override in overrides}).policy(document)


def ends(source: str) -> bool:
    """Whether the last line says that the policy ends there: what was cut off before it does not."""
    written = (line.partition("#")[0].strip() for line in reversed(source.split("\n")))
    return next((line for line in written if line), "") == f"[{END}]"


@dataclass(frozen=True, slots=True)
class _Reader:
    """Walks a parsed document, and knows where in the source a name stands."""

    source: str
    origin: str
    overridden: Mapping[tuple[str, ...], str]

    def policy(self, document: dict[str, Any]) -> Policy:
        self.only(document, (), ("version", "targets", "privacy", "budgets", "quality", "handoff", "offline", "audit", "rules", END))
        if document.get(END, {}) != {} or (END in document and not ends(self.source)):
            raise self.error((END,), f"[{END}] says that the policy is whole: make it the last line, with nothing in it")
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
        if long := next((name for name in written if len(name) > MAX_NAME_CHARS), None):
            raise self.error(("privacy", "classes", long), f"the name of a class has at most {MAX_NAME_CHARS} characters")
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
            raise self.error(
                ("rules",), f"there are {len(written)} rules; at most {MAX_RULES} are taken, for each costs every decision time"
            )
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
        return PolicyError(message, file=self.origin, line=line_of(self.source, path, entry) or 1)


def origins(source: str, policy: Policy, overrides: Sequence[Override] = ()) -> dict[str, tuple[Any, str]]:
    """Every value of a policy by its dotted name, and where it comes from: "default", "FILE:LINE" or an override's origin."""
    found: dict[str, tuple[Any, str]] = {}
    overridden = {override.path: override.origin for override in overrides}

    def walk(path: tuple[str, ...], value: Any) -> None:
        if isinstance(value, dict) and value:
            for name, part in value.items():
                walk((*path, name), part)
            return
        line = line_of(source, path, exact=True)
        written = "default" if line is None or policy.origin == "default" else f"{policy.origin}:{line}"
        found[".".join(path)] = (value, overridden.get(path, written))

    walk((), policy.to_dict())
    return found


def line_of(source: str, path: tuple[str, ...], entry: int = 0, *, exact: bool = False) -> int | None:
    """The line (from 1) where the name `path`, or a table in it, is first written, or that of the nearest table around it: of the tables
    written [[so]] the one with the number `entry`. For messages only.
    """
    best: tuple[int, int] | None = None
    entries = -1
    table: tuple[str, ...] = ()
    for number_, line in enumerate(source.split("\n"), start=1):
        name, equals, _ = line.partition("=")
        if header := re.match(r"\[\[?([^\[\]]+)\]", line.strip()):
            table = here = _dotted(header[1])
            entries += line.lstrip().startswith("[[") and here == path[: len(here)]
        elif equals and re.fullmatch(r"[\w\"'.\s-]+", name):
            here = (*table, *_dotted(name))
        else:
            continue
        if entries > entry:
            break
        known = here[: len(path)]
        if entries in (-1, entry) and known == path[: len(known)] and (best is None or len(known) > best[0]):
            best = (len(known), number_)
    return best[1] if best and (not exact or best[0] == len(path)) else None


def _dotted(name: str) -> tuple[str, ...]:
    return tuple(part.strip().strip("\"'") for part in name.split("."))


def _toml_fault(source: str, error: ValueError | RecursionError) -> tuple[str, int]:
    """What is wrong with the text, and in which line of it (from 1)."""
    lines = source.split("\n")
    if isinstance(error, RecursionError):
        return "nested too deeply", 1 + max(range(len(lines)), key=lambda i: lines[i].count("[") + lines[i].count("{"))
    if not isinstance(error, tomllib.TOMLDecodeError):
        return "a number has too many digits", 1 + max(range(len(lines)), key=lambda i: sum(map(str.isdigit, lines[i])))
    found = re.search(r"\(at line (\d+), column \d+\)", str(error))
    return re.sub(r"\s*\(at .*\)$", "", str(error)), int(found[1]) if found else len(lines)


def _short(value: Any) -> str:
    try:
        shown = repr(value)
    except ValueError:  # more digits than Python writes
        return "a huge number"
    return shown if len(shown) <= 60 else shown[:57] + "…"
