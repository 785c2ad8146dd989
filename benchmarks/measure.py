"""What every benchmark shares: the machine's name, interleaved timing, and one way to print rows."""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Row = dict[str, Any]


def machine() -> Row:
    """The processor, its cores and the load at this moment."""
    try:
        with open("/proc/cpuinfo") as file:
            name = next(line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        name = platform.processor()
    return {"cpu": name, "cores": os.cpu_count(), "load": round(os.getloadavg()[0], 2), "python": platform.python_version()}


def interleaved(contenders: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Call every contender once per round, in turn, so that a noisy minute hits all of them alike; their figures by name."""
    figures: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, run in contenders.items():
            figures[name].append(run())
    return figures


def quantile(figures: Sequence[float], q: float) -> float:
    """The q-quantile (0…1) by nearest rank."""
    ordered = sorted(figures)
    return ordered[min(len(ordered) - 1, int(q * len(ordered)))]


def median(figures: Sequence[float]) -> float:
    """The median."""
    return statistics.median(figures)


def run_cli(title: str, measure: Callable[[bool], list[Row]]) -> None:
    """The command line of one benchmark: `--quick` for a smaller run, `--json` for one JSON object instead of a table."""
    parser = argparse.ArgumentParser(description=title)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    args = parser.parse_args()
    before = machine()
    rows = measure(args.quick)
    if args.json:
        print(json.dumps({"benchmark": title, "machine": before, "rows": rows}, indent=1))
    else:
        show(title, before, rows)


def show(title: str, where: Row, rows: list[Row]) -> None:
    """Print rows as an aligned table, numbers to three digits."""
    print(f"\n{title}  ({where['cpu']}, {where['cores']} cores, load {where['load']})")
    columns = list(dict.fromkeys(key for row in rows for key in row))
    cells = [columns, *([_cell(row.get(column)) for column in columns] for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    for line in cells:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    return (
        f"{value:,.3g}" if isinstance(value, float) and abs(value) < 1000 else f"{value:,.0f}" if isinstance(value, float) else str(value)
    )
