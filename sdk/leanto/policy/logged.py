"""What a replay needs of one line of a decision log, which is a Decision. Knows nothing of policies."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import get_args

from leanto.decision import CANCELLED, Check, Decision, Facts, Promise, Spent, Target, Value
from leanto.errors import UserError
from leanto.policy.shape import Range, Read, reader
from leanto.request import Task
from leanto.signals import Snapshot

_SIGNED: Range = (-1e18, 1e18)
_SHARE: Range = (0.0, 1.0)
_RANGES = {"value": _SIGNED, "threshold": _SIGNED, "artifact_threshold": _SIGNED, "temperature_c": _SIGNED}
_RANGES |= {"confidence": _SHARE, "prompt_score": _SHARE, "alpha": _SHARE, "delta": _SHARE, "ece": _SHARE}
_RANGES |= {"edge_low_floor": _SIGNED, "edge_probe_floor": _SHARE}
_NOT_NEGATIVE: Range = (0.0, 1e18)  # all else: counts, costs and times


@dataclass(frozen=True, slots=True)
class Logged:
    """Fields named as in a Decision are those. `foreseen` is what the probe made of the prompt; `lowest` the worst windowed mean logprob,
    of `window` tokens, `low` the low logprob of the answer; `repeats` is how often it came round when it was broken off, `no_json` that it
    was, as no call any more, `slow_ms` that it was, for it would have taken so long, under a deadline of `slow_for_ms`; `valid_call` says
    whether a call was one; `edge_failed` and `cloud_failed`, that a leg broke, `edge_late` and `cloud_late`, that its time ran out."""

    route: str
    facts: Facts
    spent: Spent
    snapshot: Snapshot
    confidence: float | None
    calibrated: bool
    artifact_threshold: float | None
    lowest: float | None
    window: int | None
    total_ms: float
    energy_j: float | None
    usd: float
    bytes_sent: int
    edge_build: str = ""
    cloud_model: str | None = None
    local_tokens: int = 0
    promise: Promise | None = None
    low: float | None = None
    foreseen: float | None = None
    repeats: float = 0
    no_json: bool = False
    slow_ms: float | None = None
    slow_for_ms: float = 0.0
    valid_call: bool | None = None
    edge_failed: bool = False
    edge_late: bool = False
    cloud_failed: bool = False
    cloud_late: bool = False
    error: str | None = None
    policy_hash: str = ""
    energy_source: str = ""
    ece: float | None = None

    @property
    def answered(self) -> bool:
        """Whether the caller got an answer."""
        return self.error is None

    @property
    def finished(self) -> bool:
        """Whether the edge came to the end of an answer of its own."""
        return self.confidence is not None or self.valid_call is False

    @property
    def cut_off(self) -> bool:
        """Whether the edge was still at it when the request ended."""
        return self.edge_late or (self.error == CANCELLED and self.route.endswith("local") and not self.finished)


def read_log(path: str | Path) -> tuple[list[Logged], int]:
    """The decisions in a JSONL log, and how many lines were not one. Raises UserError if it cannot be read."""
    found: list[Logged] = []
    skipped = 0
    try:
        with Path(path).open(encoding="utf-8", errors="replace") as file:
            for line in filter(str.strip, file):
                try:
                    found.append(logged(_decision()(json.loads(line))))
                except (ValueError, RecursionError):
                    skipped += 1
    except OSError as error:
        raise UserError(f"{path}: the log cannot be read: {error.strerror or error}") from None
    return found, skipped


@cache
def _decision() -> Read:
    return reader(Decision, _RANGES, _NOT_NEGATIVE)


def logged(decision: Decision) -> Logged:
    """What a replay needs of a decision. Raises ValueError for one that no client writes, or did not write yet."""
    facts, spent, checks = decision.facts, decision.spent, decision.checks
    if facts is None or spent is None or facts.task not in get_args(Task):
        raise ValueError
    if decision.route != "none" and not set(decision.route.split("→")) <= set(get_args(Target)):
        raise ValueError
    stream = [check for check in checks if check.stage == "stream" and check.name.startswith("mean_logprob_")]
    watched = next((check for check in reversed(stream) if check.value is not None), None)
    named = {(check.stage, check.name): check for check in checks}
    offline, slow = named.get(("offline", "cloud")), named.get(("stream", "local_ms"))
    ended = decision.error
    on_edge = bool(checks) and "local" in checks[-1].allowed_after
    return Logged(
        route=decision.route,
        facts=facts,
        spent=spent,
        snapshot=decision.snapshot,
        confidence=decision.confidence,
        calibrated=decision.calibrated,
        artifact_threshold=decision.artifact_threshold,
        lowest=_number(watched.value) if watched else None,
        window=int(watched.name.rpartition("_")[2]) if watched else None,
        total_ms=decision.total_ms,
        energy_j=decision.energy_j,
        usd=decision.usd,
        bytes_sent=decision.bytes_sent,
        edge_build=decision.edge_build,
        cloud_model=decision.cloud_model,
        local_tokens=decision.local_tokens,
        promise=decision.promise,
        low=_found(named.get(("stream", "low_logprob"))),
        foreseen=_found(named.get(("prompt", "probe"))),
        repeats=_found(named.get(("stream", "repeats"))) or 0,
        no_json=("stream", "json_prefix") in named,
        slow_ms=_found(slow),
        slow_for_ms=_number(slow.threshold) if slow else 0.0,
        valid_call=_flag(named.get(("answer", "valid_call"))),
        edge_failed=("stream", "edge") in named or ended == "EngineFault" or (ended == "PromptRefused" and on_edge),
        edge_late=ended == "DeadlineExceeded" and on_edge,
        cloud_failed=offline is not None,
        cloud_late=offline is not None and offline.value == "cloud-late",
        error=ended,
        policy_hash=decision.policy_hash,
        energy_source=decision.energy_source,
        ece=decision.ece,
    )


def _flag(check: Check | None) -> bool | None:
    value = None if check is None else check.value
    if value is not None and not isinstance(value, bool):
        raise ValueError
    return value


def _found(check: Check | None) -> float | None:
    return None if check is None or check.value is None else _number(check.value)


def _number(value: Value) -> float:
    if isinstance(value, bool | str) or value is None:
        raise ValueError
    return value
