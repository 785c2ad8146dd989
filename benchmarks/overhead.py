"""What leanto adds to a request, in µs: `decide` without rules and with many, and a whole `ask` whose model says its answer again at once,
with decision log and ledger in files. And the time to import the package in ms.

Bars: decide p99 < 100 µs, ask p99 < 1 ms. `python -m benchmarks.overhead [--json] [--quick]`.

Calls are timed in windows, all contenders in turn. p99 is over all calls, with a 95 % interval by order statistics; `best p99` is the
lowest of the windows, which a busy machine disturbs least. `cpu` is time on the processor: the thread's for decide, the process's for ask.
"""

from __future__ import annotations

import asyncio
import math
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.measure import Row, quantile, run_cli
from leanto import AsyncClient, Client
from leanto.local.run import EdgeModel, open_model
from leanto.policy import Facts, Policy, Spent, decide, default_policy, parse_policy
from leanto.signals import Snapshot

if TYPE_CHECKING:
    from leanto_edge import GenerationRequest, Token

UTTERANCE = "wake me at half past six on weekdays"
WINDOW = 250
KNOWN = Snapshot(battery_percent=80.0, plugged=False, cpu_load=0.5, temperature_c=50.0, link="up")
CONDITIONS = (  # in turn, each with the number of its rule
    "prompt_tokens > {n} && battery_percent < {n}.0 && task == 'text' && cpu_load > 3.0",
    "cpu_load > {n}.0 || metered == true || prompt_tokens > 3{n}",
    "privacy in ['work', 'home{n}'] && link == 'up'",
    "temperature_c > 8{n}.0 || (plugged == false && battery_percent < 0.{n})",
)


class Recorded:
    """The edge model, which generates its first answer and then says it again."""

    def __init__(self, edge: EdgeModel) -> None:
        self.info, self.tokenizer, self._edge = edge.info, edge.tokenizer, edge
        self._tokens: list[Token] = []

    def generate(self, request: GenerationRequest) -> Iterator[Token]:
        """What it said at first."""
        self._tokens = self._tokens or list(self._edge.generate(request))
        return iter(self._tokens)


@dataclass
class Timed:
    """A call, its clock of processor time (ns), and what it took each time, in µs."""

    name: str
    call: Callable[[int], object]
    cpu: Callable[[], int] = time.thread_time_ns
    wall_us: list[float] = field(default_factory=list)
    cpu_us: list[float] = field(default_factory=list)

    def window(self) -> None:
        """Some more calls, each with the number of its turn."""
        for i in range(WINDOW):
            with self.timed():
                self.call(i)

    @contextmanager
    def timed(self) -> Iterator[None]:
        """One more call."""
        cpu, wall = self.cpu(), time.perf_counter_ns()
        yield
        self.wall_us.append((time.perf_counter_ns() - wall) / 1000)
        self.cpu_us.append((self.cpu() - cpu) / 1000)

    def row(self) -> Row:
        """What it took."""
        low, high = interval(self.wall_us, 0.99)
        found: Row = {"what": self.name, "unit": "µs", "p50": quantile(self.wall_us, 0.5), "p99": quantile(self.wall_us, 0.99)}
        found |= {"p99 low": low, "p99 high": high, "best p99": _best(self.wall_us)}
        return found | {"cpu p50": quantile(self.cpu_us, 0.5), "cpu p99": quantile(self.cpu_us, 0.99), "best cpu p99": _best(self.cpu_us)}


@dataclass
class Awaited(Timed):
    """Calls that are awaited one after the other, on one event loop."""

    runner: asyncio.Runner = field(default_factory=asyncio.Runner)

    def window(self) -> None:
        """Some more."""
        self.runner.run(self._window())

    async def _window(self) -> None:
        for i in range(WINDOW):
            with self.timed():
                await self.call(i)  # type: ignore[misc]


def measure(quick: bool) -> list[Row]:
    """All rows."""
    rounds = 4 if quick else 40
    deciding = [_decide("no rules", default_policy(), KNOWN)]
    deciding += [_decide(f"{n} rules", _ruled(n), KNOWN) for n in (8, 32)]
    deciding += [_decide("32 rules, every signal unknown", _ruled(32), Snapshot())]
    _run(deciding, rounds)
    with tempfile.TemporaryDirectory() as folder:
        edge = Recorded(open_model(None))
        files = {"log": Path(folder, "log.jsonl"), "ledger": Path(folder, "ledger.db")}
        with asyncio.Runner() as runner, Client(model=edge, policy=_ruled(8), **files) as client:  # type: ignore[arg-type]
            plain = AsyncClient(model=edge, policy=default_policy())
            whole = AsyncClient(model=edge, policy=_ruled(8), log=files["log"], ledger=files["ledger"])
            asking = [
                Timed("look → decide → record", lambda _: client.explain(UTTERANCE)),
                Awaited("ask", lambda _: plain.ask(UTTERANCE), time.process_time_ns, runner=runner),
                Awaited("ask, 8 rules, log, ledger", lambda _: whole.ask(UTTERANCE), time.process_time_ns, runner=runner),
                Timed("the same from a thread that waits", lambda _: client.ask(UTTERANCE), time.process_time_ns),
            ]
            _run(asking, rounds)
            runner.run(plain.aclose())
            runner.run(whole.aclose())
    return [*(timed.row() for timed in (*deciding, *asking)), _imports(3 if quick else 11)]


def interval(figures: Sequence[float], q: float) -> tuple[float, float]:
    """Of the q-quantile with 95 % confidence, whatever the distribution: the order statistics around it, by the normal approximation."""
    ordered, n = sorted(figures), len(figures)
    spread = 1.96 * math.sqrt(n * q * (1 - q))
    return ordered[max(0, math.floor(n * q - spread))], ordered[min(n - 1, math.ceil(n * q + spread))]


def _run(contenders: Sequence[Timed], rounds: int) -> None:
    for timed in contenders:
        timed.window()
        timed.wall_us.clear()
        timed.cpu_us.clear()
    for _ in range(rounds):
        for timed in contenders:
            timed.window()


def _decide(name: str, policy: Policy, snapshot: Snapshot) -> Timed:
    facts = [Facts("call", "personal", 12 + i % 80, ("call", "text"), 512, True) for i in range(WINDOW)]
    spent = Spent()
    return Timed(f"decide, {name}", lambda i: decide(policy, facts[i], snapshot, spent))


def _ruled(count: int) -> Policy:
    """As many rules, half of them with allow, half with prefer; of four forms."""
    texts = []
    for n in range(1, count + 1):
        then = 'allow = ["local"]' if n % 2 else 'prefer = "cloud"'
        texts.append(f'[[rules]]\nname = "{n}"\nif = "{CONDITIONS[n % len(CONDITIONS)].format(n=n)}"\n{then}\n')
    return parse_policy("version = 1\n" + "".join(texts))


def _best(figures: Sequence[float]) -> float:
    return min(quantile(figures[at : at + WINDOW], 0.99) for at in range(0, len(figures), WINDOW))


def _imports(rounds: int) -> Row:
    """`import leanto` in a fresh interpreter, the interpreter's own start taken off."""

    def run(code: str) -> float:
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True)
        return 1000 * (time.perf_counter() - start)

    figures = [run("import leanto") - run("pass") for _ in range(rounds)]
    return {"what": "import leanto", "unit": "ms", "p50": statistics.median(figures), "p99": max(figures)}


if __name__ == "__main__":
    run_cli("overhead", measure)
