"""All benchmarks, one after the other: `python -m benchmarks [--quick] [--json]`."""

from __future__ import annotations

import argparse
import json

from benchmarks import decode, overhead, remote
from benchmarks.measure import machine, show


def main() -> None:
    """Print every table, or all of them as one JSON list."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    parser.add_argument("--json", action="store_true", help="print one JSON list")
    args = parser.parse_args()
    results = []
    for name, benchmark in (("decode", decode), ("overhead", overhead), ("remote", remote)):
        where = machine()
        rows = benchmark.measure(args.quick)
        results.append({"benchmark": name, "machine": where, "rows": rows})
        if not args.json:
            show(name, where, rows)
    if args.json:
        print(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
