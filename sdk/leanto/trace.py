"""Views of a decision: a line of the JSONL log, HTTP and gRPC headers, telemetry. Never the text of a prompt or an answer."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from leanto.decision import Decision, Promise
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
    """Where a field of a Decision is told beside the log, which has all: under which header (and gRPC metadata), after "leanto-", and
    which attribute of OpenTelemetry; None is nowhere. `form` writes the header, and the attribute too of what is no plain value."""

    field: str
    header: str | None = None
    attribute: str | None = None
    form: Callable[[Any], str] = str

    def plain(self, value: Any) -> str | int | float | bool:
        """As an attribute."""
        return value if isinstance(value, str | int | float | bool) else self.form(value)


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _promised(promise: Promise) -> str:
    if promise.threshold is None:
        return f"none: {promise.why_not}"
    return f"alpha={promise.alpha:g}, delta={promise.delta:g}, threshold={promise.threshold:.4f}"


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
    View("promise", "promise", "leanto.promise", _promised),
    View("calibrated", "calibrated", "leanto.calibrated", _yes),
    View("ece", "ece", "leanto.ece", "{:.4f}".format),
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
    View("audited", "audited", "leanto.audited", _yes),
    View("decided_at"),  # the span's end
    View("cloud_evidence", "cloud-evidence", "leanto.cloud_evidence"),
    View("error", "error", "error.type"),
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
    told = {view.attribute: view.plain(value) for view, value in _told(decision) if view.attribute}
    every = {
        "gen_ai.operation.name": "text_completion",
        "gen_ai.provider.name": "leanto",
        "gen_ai.request.model": "leanto",
        "gen_ai.output.type": "json" if decision.task == "call" else "text",
        "gen_ai.response.model": decision.cloud_model if decision.route.endswith("cloud") else decision.edge_build,
        "gen_ai.usage.input_tokens": decision.facts.prompt_tokens if decision.facts else None,
        "gen_ai.usage.output_tokens": decision.answer_tokens,
    }
    return {**told, **{name: value for name, value in every.items() if value is not None}}


def _told(decision: Decision) -> Iterator[tuple[View, Any]]:
    """Every view with its value, where it has one."""
    for view in VIEWS:
        value = getattr(decision, view.field)
        if value is not None and value != "":
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
        self._torn = _ends_within_a_line(self.path)
        self._warned = False

    def write(self, decision: Decision) -> None:
        """One line in one write, so that several processes may share a file. A full disk costs the line, not the answer, and not the
        next line: that begins with a newline where the end of the last one may be missing."""
        line = ("\n" if self._torn else "") + json.dumps(decision.to_dict(), ensure_ascii=False, separators=(",", ":")) + "\n"
        raw = line.encode()
        try:
            why = "" if os.write(self._file, raw) == len(raw) else "no space was left for the whole of it"
        except OSError as error:
            why = error.strerror or str(error)
        self._torn = bool(why)
        if why and not self._warned:
            self._warned = True
            _log.warning("%s: a decision was not logged: %s; nothing is said of further ones", self.path, why)

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)


def _ends_within_a_line(path: Path) -> bool:
    """Whether whoever wrote last was cut off. What has no end that could be read, such as a pipe, has no such line."""
    try:
        if not path.is_file() or not path.stat().st_size:
            return False
        with path.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read() != b"\n"
    except OSError:
        return False
