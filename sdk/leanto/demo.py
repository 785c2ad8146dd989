"""The demo: a private node on loopback and about twenty requests through the whole journey, as a live table or JSON lines.

Every answer is computed here and now; the utterances are in demo_cases. Knows nothing that an application could not do too.
"""

from __future__ import annotations

import json
import signal
import socket
import statistics
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING, Any, Protocol

from leanto.client import Client
from leanto.demo_cases import CASES, STORY, Case, Circumstance
from leanto.events import FinalEvent, HandoffEvent, Reply, TextEvent
from leanto.local import open_model
from leanto.local_node import LocalNode
from leanto.remote import RemoteTarget

if TYPE_CHECKING:
    from rich.table import Table

CALL_TOKENS = 96
STORY_TOKENS = 96


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
        view.started(f"{edge.info.name} ({edge.info.stored_bytes / 1e6:.2f} MB)", f"{node.model_id} on {node.target.address}")
        clients: dict[Circumstance, Client] = {
            "": stack.enter_context(Client(model=edge, cloud=node.target)),
            "low battery": stack.enter_context(Client(model=edge, cloud=node.target, simulate="battery=9%,plugged=no")),
            "cloud unreachable": stack.enter_context(Client(model=edge, cloud=_nobody(node.target))),
        }
        clients["private"] = clients[""]
        rows = []
        for case in CASES:
            rows.append(_answer(case, clients[case.circumstance]))
            view.row(rows[-1])
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
    """A rich table that grows, the story below it."""

    def __enter__(self) -> LiveTable:
        from rich.console import Console
        from rich.live import Live

        self._console = Console()
        self._story = ""
        self._title = "loading"
        self._rows: list[Row] = []
        self._live = Live(self._table(), console=self._console, refresh_per_second=8, vertical_overflow="visible")
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def started(self, edge: str, node: str) -> None:
        """Which models answer."""
        self._title = f"edge {edge}, leaning on {node}"
        self._live.update(self._table())

    def text(self, text: str) -> None:
        """The story so far."""
        from rich.console import Group
        from rich.panel import Panel
        from rich.text import Text

        self._story += text
        self._live.update(Group(self._table(), Panel(Text(self._story), title="story, streamed")))

    def row(self, row: Row) -> None:
        """One line of the table."""
        self._rows.append(row)
        if row.right is None:
            self.text("")
        else:
            self._live.update(self._table())

    def summary(self, summary: Summary) -> None:
        """The figures, below everything."""
        self._live.stop()
        local = "n/a" if summary.correct_local is None else f"{summary.correct_local:.0%}"
        energy = "n/a" if summary.energy_j is None else f"{summary.energy_j:.1f} J"
        kept = f"kept local {summary.share_local:.0%} of {summary.requests} requests"
        self._console.print(f"{kept}; right: {local} of those kept local, {summary.correct:.0%} overall")
        for route, figures in summary.latency_ms.items():
            self._console.print(f"  {route:<14} n {figures['n']:<3.0f} p50 {figures['p50']:.1f} ms   p95 {figures['p95']:.1f} ms")
        self._console.print(f"sealed bytes sent {summary.bytes_sent}; energy {energy}")

    def _table(self) -> Table:
        from rich.table import Table
        from rich.text import Text

        table = Table(title=self._title, title_justify="left", expand=False, pad_edge=False)
        for name, justify in (("utterance", "left"), ("route", "left"), ("conf.", "right"), ("why", "left"), ("ms", "right")):
            table.add_column(name, justify="right" if justify == "right" else "left")
        table.add_column("J", justify="right")
        table.add_column("answer")
        table.add_column("")
        for row in self._rows:
            reply = row.reply
            mark = {True: "[green]✓[/]", False: "[red]✗[/]", None: ""}[row.right]
            table.add_row(
                Text(f"{row.utterance} ({row.circumstance})" if row.circumstance else row.utterance),
                reply.route,
                "" if reply.confidence is None else f"{reply.confidence:.2f}",
                reply.decision.label,
                f"{reply.latency_ms:.0f}",
                "n/a" if reply.energy_j is None else f"{reply.energy_j:.1f}",
                Text(_short(reply)),
                mark,
            )
        return table


def _short(reply: Reply) -> str:
    """intent(slot=value, …), or the first words."""
    if reply.call is None:
        return reply.text.strip()[:40] + "…"
    slots = ", ".join(f"{name}={value}" for name, value in (reply.call.get("slots") or {}).items())
    return f"{reply.call['intent']}({slots})"
