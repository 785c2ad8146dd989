"""One parser as the fuzzer sees it, and what must hold of it: a case is accepted, or refused with an error that the parser promises.

Knows nothing of which parsers there are: see parsers.py.
"""

from __future__ import annotations

import atexit
import faulthandler
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

CPU_S = 3.0  # that one case may take; a few milliseconds are usual
HANG_S = 60  # for a batch of cases, whatever they wait for; then the process ends with a traceback
BATCH = 100
LINE_CHARACTERS = 600
ENOUGH = 50  # cases after which each target must have accepted and refused some
SHOWN = 3  # broken cases of one target that are told in full; of the others, the numbers

Given = bytes | tuple[bytes, ...]


@cache
def scratch(name: str) -> Path:
    """A folder, the same for the same name, in memory where that can be; it is gone when the process ends."""
    folder = TemporaryDirectory(prefix=f"{name}-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None)
    atexit.register(folder.cleanup)
    return Path(folder.name)


def written(name: str, raw: bytes) -> Path:
    """The file of one case, and nothing beside it of the cases before."""
    for old in scratch(name).iterdir():
        old.unlink()
    path = scratch(name) / name
    path.write_bytes(raw)
    return path


@dataclass(frozen=True, slots=True)
class Target:
    """`make` draws what the parser is given, now and then a sound one; `refuses` are the very types of the errors that it promises."""

    name: str
    make: Callable[[Random], Given]
    parse: Callable[[Any], object]
    refuses: tuple[type[BaseException], ...]
    quotes: bool = False  # the errors may quote what was given: it is the user's own
    divisor: int = 1  # one that is slow tries so many times fewer cases, and says so

    def case(self, number: int) -> Given:
        """What the case with this number gives, the same every time but for keys that are made anew in each process."""
        return self.make(Random(f"{self.name} {number}"))


@dataclass(slots=True)
class Outcome:
    """What became of the cases of one target."""

    cases: int = 0
    given_bytes: int = 0
    found: Counter[str] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)
    cpu_s: float = 0.0


class TookTooLong(BaseException):
    """A case has used up its time."""


def run(target: Target, first: int, count: int) -> Outcome:
    """Try the cases; a target that never accepts or never refuses anything is broken itself."""
    outcome, start_s = Outcome(), time.process_time()
    for number in range(first, first + count):
        if (number - first) % BATCH == 0:
            print(f"\r{target.name} {number} ", end="", file=sys.stderr, flush=True)  # the last one seen, should the process end here
            faulthandler.dump_traceback_later(HANG_S, exit=True)
        _try(target, number, outcome)
    faulthandler.cancel_dump_traceback_later()
    outcome.cpu_s = time.process_time() - start_s
    if count >= ENOUGH and not outcome.broken:
        accepted = outcome.found["accepted"]
        for some, what in (accepted, "accepts"), (outcome.cases - accepted, "refuses"):
            outcome.broken += [f"{target.name} never {what} anything, so it tests nothing"] * (not some)
    return outcome


def _try(target: Target, number: int, outcome: Outcome) -> None:
    given: Given = b""
    try:
        given = target.case(number)
        outcome.cases += 1
        outcome.given_bytes += len(given) if isinstance(given, bytes) else sum(map(len, given))
        with _limited():
            outcome.found[came_of(target, given)] += 1
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        outcome.found["BROKEN"] += 1
        trace = "".join(traceback.format_exception(error)[-4:])
        outcome.broken.append(f"{target.name} {number}: {given!r:.400}\n{trace}" if len(outcome.broken) < SHOWN else str(number))


def came_of(target: Target, given: Given) -> str:
    """ "accepted", or the name of the error that it was refused with. Raises whatever the parser must not."""
    try:
        target.parse(given)
    except target.refuses as error:
        if type(error) not in target.refuses:
            raise
        line = str(error)
        assert line.isprintable(), f"not one line: {line!r}"
        assert len(line) < LINE_CHARACTERS or target.quotes, f"a line of {len(line)} characters"
        return type(error).__name__
    return "accepted"


@contextmanager
def _limited() -> Iterator[None]:
    """Raise TookTooLong in what takes more processor time than CPU_S; other processes on this machine do not count."""
    before = signal.signal(signal.SIGPROF, _stop)
    signal.setitimer(signal.ITIMER_PROF, CPU_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def _stop(*_: object) -> None:
    raise TookTooLong(f"more than {CPU_S:g} s")
