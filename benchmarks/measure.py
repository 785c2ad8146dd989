"""What every benchmark shares: the machine's name, interleaved timing, and one way to print rows."""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from leanto.certificates.selective_risk import upper_bound

ROOT = Path(__file__).parents[1]
DATA = ROOT.parent / "shared" / "data"

Row = dict[str, Any]
Section = tuple[str, Callable[[], list[Row]]]  # a title, and what measures its rows


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


def clopper_pearson(count: int, n: int) -> list[float]:
    """The exact 95 % interval of a share, `count` of `n`."""
    return [1 - upper_bound(n - count, n, 0.025), upper_bound(count, n, 0.025)]


def run_cli(title: str, measure: Callable[[bool], list[Row]]) -> None:
    """The command line of one benchmark of one table."""
    args = parser(title).parse_args()
    publish([(title, lambda: measure(args.quick))], as_json=args.json)


def parser(about: str | None, *, data: str = "") -> argparse.ArgumentParser:
    """What every benchmark takes: `--quick` for a smaller run, `--json` instead of tables, and `--data`, a folder that holds `data`."""
    found = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    found.add_argument("--json", action="store_true", help="print JSON")
    found.add_argument("--quick", action="store_true", help="a smaller run")
    if data:
        found.add_argument("--data", type=Path, default=DATA, help=f"the folder that holds {data}")
    return found


def publish(sections: Iterable[Section], *, as_json: bool) -> None:
    """Measure one section after the other, and print each as a table as soon as it is there; or all as JSON: one object, or a list."""
    results = []
    for title, measure in sections:
        where = machine()
        rows = measure()
        results.append({"benchmark": title, "machine": where, "rows": rows})
        if not as_json:
            show(title, where, rows)
    if as_json:
        print(json.dumps(results[0] if len(results) == 1 else results, indent=1))


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
