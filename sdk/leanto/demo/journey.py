"""The demo: a private node on loopback and about twenty requests through the whole journey, as a live table or JSON lines.

Every answer is computed here and now; the utterances are in cases.py. Knows nothing that an application could not do too.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import statistics
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any, Protocol

from leanto.client import Client
from leanto.demo.cases import CASES, STORY, Case, Circumstance
from leanto.demo.local_node import LocalNode
from leanto.events import FinalEvent, HandoffEvent, Reply, TextEvent
from leanto.local.run import open_model
from leanto.remote import RemoteTarget

CALL_TOKENS = 96
LOW_BATTERY = "battery=9%,plugged=no"
STORY_TOKENS = 96
LOG_COLUMNS = 160  # where there is no terminal to say how wide it is
COLUMNS = {"utterance": 0, "route": 11, "conf.": 5, "why": 18, "ms": 5, "J": 4, "answer": 0, "": 1}  # 0: what is left


@dataclass(frozen=True, slots=True)
class Row:
    """One answered request. `right` is None for the story, which has no right answer."""

    utterance: str
    circumstance: str
    reply: Reply
    right: bool | None


@dataclass(frozen=True, slots=True)
class Summary:
    """What the table adds up to. Shares in [0, 1], latencies in ms per route, joules or None where nothing measures them."""

    requests: int
    share_local: float
    correct_local: float | None
    correct: float
    latency_ms: dict[str, dict[str, float]]
    bytes_sent: int
    energy_j: float | None
    energy_source: str


class View(Protocol):
    """Where the demo shows itself."""

    def started(self, edge: str, node: str) -> None:
        """The models are loaded and the node serves."""
        ...

    def text(self, text: str) -> None:
        """A piece of the story, as it comes."""
        ...

    def row(self, row: Row) -> None:
        """A request was answered."""
        ...

    def summary(self, summary: Summary) -> None:
        """All of them were."""
        ...


def demo(*, as_json: bool = False) -> int:
    """Run it; returns the exit code 0. The node is ended in every case. Raises what the client and the node raise."""
    with _terminable(), ExitStack() as stack:
        view: View = JsonLines() if as_json else stack.enter_context(LiveTable())
        edge = open_model(None)
        node = stack.enter_context(LocalNode())
        view.started(f"{edge.info.name} ({edge.info.stored_bytes / 1e6:.2f} MB)", f"{_brief(node.model_id)} on {node.target.address}")
        clients: dict[Circumstance, Client] = {
            "": stack.enter_context(Client(model=edge, cloud=node.target)),
            "low battery": stack.enter_context(Client(model=edge, cloud=node.target, simulate=LOW_BATTERY)),
            "low battery, cloud unreachable": stack.enter_context(Client(model=edge, cloud=_nobody(node.target), simulate=LOW_BATTERY)),
        }
        clients["private"] = clients[""]
        rows = []
        for case in CASES:
            rows.append(_answer(case, clients[case.circumstance]))
            view.row(rows[-1])
        view.text("\n")
        rows.append(_tell(STORY, clients[""], view))
        view.row(rows[-1])
        view.summary(summarize(rows))
    return 0


def _answer(case: Case, client: Client) -> Row:
    reply = client.ask(case.utterance, task="call", private=case.circumstance == "private", max_tokens=CALL_TOKENS)
    return Row(case.utterance, case.circumstance, reply, case.is_right(reply.call))


def _tell(prompt: str, client: Client, view: View) -> Row:
    """The story, streamed: it may change hands between two words."""
    view.text(prompt)
    for event in client.stream(prompt, task="text", max_tokens=STORY_TOKENS, temperature=0.7, top_p=0.95, seed=7):
        match event:
            case TextEvent():
                view.text(event.text)
            case HandoffEvent():
                view.text(f" [{event.source}→{event.target}: {event.reason}] ")
            case FinalEvent():
                return Row(prompt, "story, streamed", event.reply, None)
    raise AssertionError("a stream ends in FinalEvent or raises")


def summarize(rows: list[Row]) -> Summary:
    """The figures under the table; correctness over the rows that have a right answer."""
    judged = [row for row in rows if row.right is not None]
    local = [row for row in judged if row.reply.route == "local"]
    routes = sorted({row.reply.route for row in rows})
    energies = [row.reply.energy_j for row in rows]
    return Summary(
        requests=len(rows),
        share_local=sum(row.reply.route == "local" for row in rows) / len(rows),
        correct_local=sum(bool(row.right) for row in local) / len(local) if local else None,
        correct=sum(bool(row.right) for row in judged) / len(judged),
        latency_ms={route: _percentiles([row.reply.latency_ms for row in rows if row.reply.route == route]) for route in routes},
        bytes_sent=sum(row.reply.decision.bytes_sent for row in rows),
        energy_source=", ".join(sorted({row.reply.decision.energy_source for row in rows})),
        energy_j=None if None in energies else sum(energy or 0.0 for energy in energies),
    )


def _percentiles(values: list[float]) -> dict[str, float]:
    cuts = statistics.quantiles(values, n=20, method="inclusive") if len(values) > 1 else [values[0]] * 19
    return {"n": len(values), "p50": round(cuts[9], 2), "p95": round(cuts[18], 2)}


def _nobody(target: RemoteTarget) -> RemoteTarget:
    """An address where nobody listens, with the same root."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return RemoteTarget(f"127.0.0.1:{held.getsockname()[1]}", target.development_root)


@contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM unwinds like Ctrl-C, so that the node is ended too."""

    def unwind(number: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    previous = signal.signal(signal.SIGTERM, unwind)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


class JsonLines:
    """One JSON object a line: {"event": "started" | "reply" | "summary", …}."""

    def started(self, edge: str, node: str) -> None:
        """Which models answer."""
        self._line("started", {"edge": edge, "cloud": node})

    def text(self, text: str) -> None:
        """The story is part of its reply."""

    def row(self, row: Row) -> None:
        """One reply with its decision."""
        self._line("reply", {"utterance": row.utterance, "circumstance": row.circumstance, "right": row.right, **row.reply.to_dict()})

    def summary(self, summary: Summary) -> None:
        """The figures."""
        self._line("summary", {name: getattr(summary, name) for name in Summary.__dataclass_fields__})

    def _line(self, event: str, content: dict[str, Any]) -> None:
        print(json.dumps({"event": event, **content}, ensure_ascii=False), flush=True)


class LiveTable:
    """A table that grows by a row with every answer, the story word by word below it. Reads the same in a log file."""

    def __enter__(self) -> LiveTable:
        from rich.console import Console

        console = Console()
        self._console = console if console.is_terminal or "COLUMNS" in os.environ else Console(width=LOG_COLUMNS)
        self._waiting = self._console.status("loading the models and starting a private node …")
        self._waiting.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._waiting.stop()

    def started(self, edge: str, node: str) -> None:
        """Which models answer, and the head of the table."""
        self._waiting.stop()
        self._console.print(f"edge {edge}, leaning on {node}\n", highlight=False)
        self._line([*COLUMNS], style="bold")

    def text(self, text: str) -> None:
        """A piece of the story."""
        self._console.print(text, end="", markup=False, highlight=False, soft_wrap=True)

    def row(self, row: Row) -> None:
        """One line of the table."""
        if row.right is None:
            self._console.print("\n")
        reply = row.reply
        utterance = f"{row.utterance} ({row.circumstance})" if row.circumstance else row.utterance
        confidence = "" if reply.confidence is None else f"{reply.confidence:.2f}"
        energy = "n/a" if reply.energy_j is None else f"{reply.energy_j:.1f}"
        mark = {True: "✓", False: "✗", None: ""}[row.right]
        style = "" if reply.route == "local" else "cyan"
        cells = [utterance, reply.route, confidence, reply.decision.label, f"{reply.latency_ms:.0f}", energy, _short(reply), mark]
        self._line(cells, style=style)

    def summary(self, summary: Summary) -> None:
        """The figures, below everything."""
        local = "n/a" if summary.correct_local is None else f"{summary.correct_local:.0%}"
        energy = "n/a" if summary.energy_j is None else f"{summary.energy_j:.1f} J ({summary.energy_source})"
        kept = f"kept local {summary.share_local:.0%} of {summary.requests} requests"
        self._console.print(f"\n{kept}; right: {local} of those kept local, {summary.correct:.0%} overall")
        for route, figures in summary.latency_ms.items():
            self._console.print(f"  {route:<14} n {figures['n']:<3.0f} p50 {figures['p50']:.1f} ms   p95 {figures['p95']:.1f} ms")
        self._console.print(f"sealed bytes sent {summary.bytes_sent}; energy {energy}")

    def _line(self, cells: list[str], *, style: str) -> None:
        """One row in columns of fixed widths; the utterance and the answer share what the terminal leaves."""
        from rich.table import Table
        from rich.text import Text

        table = Table.grid(padding=(0, 1), expand=True)
        for width in COLUMNS.values():
            table.add_column(width=width or None, ratio=None if width else 1, overflow="fold")
        table.add_row(*(Text(cell) for cell in cells), style=style)
        self._console.print(table)


def _brief(model_id: str) -> str:
    """name@hash, the hash cut short."""
    name, _, build = model_id.partition("@")
    return f"{name}@{build[:12]}"


def _short(reply: Reply) -> str:
    """intent(slot=value, …), or the first words."""
    if reply.call is None:
        return reply.text.strip()[:40] + "…"
    slots = ", ".join(f"{name}={value}" for name, value in (reply.call.get("slots") or {}).items())
    return f"{reply.call['intent']}({slots})"
