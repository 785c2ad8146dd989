"""What leanto adds to a request: the decision (look, decide, record) in µs, and the time to import the package in ms.

`python -m benchmarks.overhead [--json] [--quick]`.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable

from benchmarks.measure import Row, quantile, run_cli
from leanto import Client
from leanto.policy import Facts, Spent, decide, default_policy
from leanto.signals import Snapshot

UTTERANCE = "wake me at half past six on weekdays"


def measure(quick: bool) -> list[Row]:
    """All rows."""
    calls = 300 if quick else 3000
    policy = default_policy()
    facts = Facts("call", "personal", 12, ("call", "text"), 512, True)
    snapshot = Snapshot(battery_percent=80.0, plugged=False, cpu_load=0.5, temperature_c=50.0, link="up")
    with Client() as client:
        rows = [
            _timed("decide (pure)", lambda: decide(policy, facts, snapshot, Spent()), calls),
            _timed("look → decide → record", lambda: client.explain(UTTERANCE), calls),
        ]
    return [*rows, _imports(3 if quick else 11)]


def _timed(name: str, call: Callable[[], object], calls: int) -> Row:
    call()
    figures = []
    for _ in range(calls):
        start = time.perf_counter_ns()
        call()
        figures.append((time.perf_counter_ns() - start) / 1000)
    return {"what": name, "unit": "µs", "p50": quantile(figures, 0.5), "p99": quantile(figures, 0.99)}


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
