"""What a replay needs of one line of a decision log. Knows nothing of policies."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from leanto.decision import Facts, Promise, Spent
from leanto.errors import UserError
from leanto.ledger import Spending
from leanto.signals import Snapshot


@dataclass(frozen=True, slots=True)
class Logged:
    """Fields named as in a Decision are those. `lowest` is the worst windowed mean logprob, of `window` tokens, `low` the low logprob of
    the answer; `repeats` is how often it came round when it was broken off, `no_json` that it was, as no call any more, `slow_ms` that it
    was, for it would have taken so long; `valid_call` says whether a call was one; `edge_failed` and `cloud_failed`, that a leg broke."""

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
    repeats: int = 0
    no_json: bool = False
    slow_ms: float | None = None
    valid_call: bool | None = None
    edge_failed: bool = False
    cloud_failed: bool = False
    ece: float | None = None


def read_log(path: str | Path) -> tuple[list[Logged], int]:
    """The decisions in a JSONL log, and how many lines were not one. Raises UserError if it cannot be read."""
    found: list[Logged] = []
    skipped = 0
    try:
        with Path(path).open(encoding="utf-8", errors="replace") as file:
            for line in file:
                try:
                    found.append(_logged(json.loads(line)))
                except (ValueError, KeyError, TypeError, RecursionError):
                    skipped += 1
    except OSError as error:
        raise UserError(f"{path}: the log cannot be read: {error.strerror or error}") from None
    return found, skipped


def _logged(record: dict[str, Any]) -> Logged:
    facts = dict(record["facts"], edge_tasks=tuple(record["facts"]["edge_tasks"]))
    spent = Spent(record["spent"]["bytes_sent"], Spending(**record["spent"]["last_day"]))
    checks: list[Mapping[str, Any]] = record["checks"]
    stream = [check for check in checks if check["stage"] == "stream" and check["name"].startswith("mean_logprob_")]
    watched = next((check for check in reversed(stream) if check["value"] is not None), None)
    named = {(check["stage"], check["name"]): check["value"] for check in checks}
    plain = {field.name: record[field.name] for field in fields(Logged) if field.name in record}
    plain |= {"facts": Facts(**facts), "spent": spent, "snapshot": Snapshot(**record["snapshot"])}
    plain |= {"promise": Promise(**record["promise"]) if record.get("promise") else None}
    plain |= {"lowest": watched and float(watched["value"]), "window": watched and int(watched["name"].rpartition("_")[2])}
    plain |= {"low": named.get(("stream", "low_logprob"))}
    plain |= {"repeats": named.get(("stream", "repeats"), 0), "no_json": ("stream", "json_prefix") in named}
    plain |= {"slow_ms": named.get(("stream", "local_ms"))}
    plain |= {"valid_call": named.get(("answer", "valid_call"))}
    plain |= {"edge_failed": ("stream", "edge") in named, "cloud_failed": ("offline", "cloud") in named}
    return Logged(**plain)
