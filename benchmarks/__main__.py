"""All benchmarks, one after the other: `python -m benchmarks [--data DATA] [--quick] [--json]`; those on data where it is there."""

from __future__ import annotations

from functools import partial

from benchmarks import certificates, decode, overhead, remote, routing
from benchmarks.measure import parser, publish


def main() -> None:
    """Print every table, or all of them as one JSON list."""
    args = parser(__doc__, data="routing/ and nlu/").parse_args()
    plain = (("decode", decode), ("overhead", overhead), ("remote", remote))
    sections = [(name, partial(benchmark.measure, args.quick)) for name, benchmark in plain]
    for benchmark in (routing, certificates):
        if (args.data / "routing").is_dir():
            sections += benchmark.sections(args.data, args.quick)
    publish(sections, as_json=args.json)


if __name__ == "__main__":
    main()
