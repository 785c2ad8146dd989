"""Every parser that reads what others wrote, and the cases that it must survive.

`python -m fuzz.parsers [TARGET …] FIRST COUNT` tries the cases with those numbers on each target, or on those that begin with the names
given, prints each that broke what the parser promises as TARGET NUMBER, and a line for each target: what became of its cases. The whole
process has a bound on its memory, each case one on its time. `python -m fuzz.parsers TARGET NUMBER 1` tries one case again.
"""

from __future__ import annotations

import resource
import sys
from collections.abc import Sequence
from contextlib import suppress

from fuzz import evidence, files, node, oblivious, policies, release_log, sealed, servers, tokens
from fuzz.loader import bound_memory
from fuzz.target import SHOWN, Target, run

ROOMS = (evidence, release_log, tokens, oblivious, sealed, node, servers, policies, files)
TARGETS: tuple[Target, ...] = tuple(target for room in ROOMS for target in room.TARGETS)
WARM = 10
NUMBERS = 40  # of the broken cases that are not told in full


def chosen(names: Sequence[str]) -> list[Target]:
    """The targets that begin with one of `names`; all for none. Raises SystemExit for a name that chooses none."""
    for name in names:
        if not any(target.name.startswith(name) for target in TARGETS):
            raise SystemExit(f"no target is called {name}; there are: {', '.join(target.name for target in TARGETS)}")
    return [target for target in TARGETS if not names or target.name.startswith(tuple(names))]


def main(arguments: Sequence[str]) -> int:
    """The number of broken cases, up to 1."""
    *names, first, count = arguments
    targets = chosen(names)
    for target in targets:  # what is made or imported once is no case's doing
        for number in range(WARM):
            with suppress(Exception):
                target.parse(target.case(number))
    bound_memory()
    broken = 0
    for target in targets:
        share = f" (1 in {target.divisor}: it is slow)" if target.divisor > 1 else ""
        outcome = run(target, int(first), -(-int(count) // target.divisor))
        broken += len(outcome.broken)
        print("\r" + "".join(f"{line}\n" for line in outcome.broken[:SHOWN]), end="")
        if more := outcome.broken[SHOWN:]:
            print(f"{target.name}, {len(more)} more: {' '.join(more[:NUMBERS])}")
        told = ", ".join(f"{name} {number}" for name, number in outcome.found.most_common())
        rate = outcome.cases / max(outcome.cpu_s, 1e-9)
        print(f"{target.name}: {outcome.cases} cases{share}, {outcome.given_bytes} bytes, {rate:.0f}/s: {told}", flush=True)
    print(f"{len(targets)} targets, {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10} MiB")
    return min(broken, 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
