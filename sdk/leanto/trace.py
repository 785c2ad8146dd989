"""Views of a decision: a line of the JSONL log, HTTP and gRPC headers, telemetry. Never the text of a prompt or an answer."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

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


@dataclass(frozen=True, slots=True)
class View:
    """Where a field of a Decision is told beside the log, which has all: under which header, after "leanto-", and which attribute of
    OpenTelemetry; None is nowhere. `form` writes the header."""

    field: str
    header: str | None = None
    attribute: str | None = None
    form: Callable[[Any], str] = str


VIEWS = (
    View("request_id", "request-id", "gen_ai.response.id"),
    View("policy_hash", "policy", "leanto.policy"),
    View("edge_build", "edge-build", "leanto.edge_build"),
    View("cloud_model", "cloud-model", "leanto.cloud_model"),
    View("task", "task", "leanto.task"),
    View("privacy", "privacy", "leanto.privacy"),
    View("snapshot"),  # a device's state is nobody's business over the wire
    View("checks"),  # events of the span; of the headers, the first veto
    View("route", "route", "leanto.route", lambda route: str(route).replace("→", ">")),
    View("labels", "label", "leanto.label", ", ".join),
    View("facts"),  # of them, the tokens read
    View("spent"),
    View("confidence", "confidence", "leanto.confidence", "{:.4f}".format),
    View("artifact_threshold"),
    View("promise"),  # its threshold is a check
    View("calibrated", "calibrated", "leanto.calibrated", lambda calibrated: "yes" if calibrated else "no"),
    View("ece", None, "leanto.ece"),
    View("switches", "switches", "leanto.switches"),
    View("local_tokens", "local-tokens", "leanto.local_tokens"),
    View("cloud_tokens", "cloud-tokens", "leanto.cloud_tokens"),
    View("wasted_tokens", "wasted-tokens", "leanto.wasted_tokens"),
    View("usd", "usd", "leanto.usd", "{:.6f}".format),
    View("bytes_sent", "bytes-sent", "leanto.bytes_sent"),
    View("bytes_received", "bytes-received", "leanto.bytes_received"),
    View("ttft_ms", "ttft-ms", "leanto.ttft_ms", "{:.1f}".format),
    View("total_ms", "total-ms", "leanto.total_ms", "{:.1f}".format),
    View("energy_j", "energy-j", "leanto.energy_j", "{:.3f}".format),
    View("energy_source", "energy-source", "leanto.energy_source"),
    View("wasted_j", "wasted-j", "leanto.wasted_j", "{:.3f}".format),
    View("audited"),  # whoever asks need not know
    View("decided_at"),  # the span's end
    View("cloud_evidence", "cloud-evidence", "leanto.cloud_evidence"),
)


def headers(decision: Decision) -> dict[str, str]:
    """The decision as HTTP headers: lower-case names, printable ASCII values of at most 1 KiB; what is not known is left out."""
    first = decision.first_veto
    told = {f"leanto-{view.header}": view.form(value) for view, value in _told(decision) if view.header}
    if first is not None:
        told["leanto-first-veto"] = f"{first.stage}.{first.name}"
    return {name: _printable(value) for name, value in told.items() if value}


def metadata(decision: Decision) -> tuple[tuple[str, str], ...]:
    """The same as gRPC metadata, for a server's initial or trailing one."""
    return tuple(headers(decision).items())


def attributes(decision: Decision) -> dict[str, str | int | float | bool]:
    """The decision by OpenTelemetry's conventions for generative AI (1.38), and its own names under leanto. Never content."""
    told = {view.attribute: ", ".join(value) if isinstance(value, tuple) else value for view, value in _told(decision) if view.attribute}
    every = {
        "gen_ai.operation.name": "text_completion",
        "gen_ai.provider.name": "leanto",
        "gen_ai.request.model": "leanto",
        "gen_ai.output.type": "json" if decision.task == "call" else "text",
        "gen_ai.response.model": decision.cloud_model if decision.route.endswith("cloud") else decision.edge_build,
        "gen_ai.usage.input_tokens": decision.facts.prompt_tokens if decision.facts else None,
        "gen_ai.usage.output_tokens": decision.local_tokens + decision.cloud_tokens - decision.wasted_tokens,
    }
    return {**told, **{name: value for name, value in every.items() if value is not None}}


def _told(decision: Decision) -> Iterator[tuple[View, Any]]:
    """Every view with its value, where it has one."""
    for view in VIEWS:
        value = getattr(decision, view.field)
        if value is not None:
            yield view, value


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
