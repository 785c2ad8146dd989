"""All benchmarks, one after the other: `python -m benchmarks [--quick]`."""

from __future__ import annotations

import argparse

from benchmarks import decode, overhead, remote
from benchmarks.measure import machine, show


def main() -> None:
    """Print every table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    args = parser.parse_args()
    for name, benchmark in (("decode", decode), ("overhead", overhead), ("remote", remote)):
        where = machine()
        show(name, where, benchmark.measure(args.quick))


if __name__ == "__main__":
    main()
