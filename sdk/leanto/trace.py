"""Views of a decision: a line of the JSONL log, HTTP and gRPC headers, telemetry. Never the text of a prompt or an answer."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import Protocol

from leanto.decision import Decision
from leanto.errors import OutputError

_log = logging.getLogger("leanto")


class Recorder(Protocol):
    """Takes every decision of a client. What it raises is logged, and costs the record, not the answer."""

    def write(self, decision: Decision) -> None:
        """One decision, made and accounted for."""
        ...

    def close(self) -> None:
        """No more will come."""
        ...


def headers(decision: Decision) -> dict[str, str]:
    """The decision as HTTP headers, or gRPC metadata: lower-case names, printable ASCII values of at most 1 KiB."""
    first = decision.first_veto
    every = {
        "request-id": decision.request_id,
        "route": decision.route.replace("→", ">"),
        "label": decision.label,
        "first-veto": f"{first.stage}.{first.name}" if first else None,
        "confidence": None if decision.confidence is None else f"{decision.confidence:.4f}",
        "calibrated": "yes" if decision.calibrated else "no",
        "policy": decision.policy_hash,
        "edge-build": decision.edge_build,
        "cloud-model": decision.cloud_model,
        "privacy": decision.privacy,
        "usd": f"{decision.usd:.6f}",
        "bytes-sent": str(decision.bytes_sent),
        "energy-j": None if decision.energy_j is None else f"{decision.energy_j:.3f}",
        "total-ms": f"{decision.total_ms:.1f}",
    }
    return {f"leanto-{name}": _printable(value) for name, value in every.items() if value}


def attributes(decision: Decision) -> dict[str, str | int | float | bool]:
    """The decision by OpenTelemetry's conventions for generative AI (1.38), and its own names under leanto."""
    every = {
        "gen_ai.operation.name": "text_completion",
        "gen_ai.provider.name": "leanto",
        "gen_ai.output.type": "json" if decision.task == "call" else "text",
        "gen_ai.response.id": decision.request_id,
        "gen_ai.response.model": decision.cloud_model if decision.route.endswith("cloud") else decision.edge_build,
        "gen_ai.usage.input_tokens": decision.facts.prompt_tokens if decision.facts else None,
        "gen_ai.usage.output_tokens": decision.local_tokens + decision.cloud_tokens - decision.wasted_tokens,
        "leanto.route": decision.route,
        "leanto.label": decision.label,
        "leanto.privacy": decision.privacy,
        "leanto.policy": decision.policy_hash,
        "leanto.edge_build": decision.edge_build,
        "leanto.confidence": decision.confidence,
        "leanto.calibrated": decision.calibrated,
        "leanto.wasted_tokens": decision.wasted_tokens,
        "leanto.usd": decision.usd,
        "leanto.energy_j": decision.energy_j,
    }
    return {name: value for name, value in every.items() if value is not None}


def _printable(text: str) -> str:
    return "".join(char if " " <= char <= "~" else "?" for char in text)[:1024]


class DecisionLog:
    """Appends to the JSONL file at `path`. Raises OutputError when it cannot be opened."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        try:
            self._file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600)
        except OSError as error:
            raise OutputError(f"{path}: the decision log cannot be written: {error.strerror or error}", path=str(path)) from None

    def write(self, decision: Decision) -> None:
        """One line in one write, so that several processes may share a file. A full disk costs the line, not the answer."""
        line = json.dumps(decision.to_dict(), ensure_ascii=False, separators=(",", ":")) + "\n"
        try:
            os.write(self._file, line.encode())
        except OSError as error:
            _log.warning("%s: a decision was not logged: %s", self.path, error.strerror or error)

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)
