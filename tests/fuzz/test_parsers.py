"""A hundred cases of every parser, the same ones every time; `make fuzz-wire` tries a hundred thousand of each."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from fuzz import target as fuzzing
from fuzz.changes import fixed
from fuzz.parsers import TARGETS, chosen
from fuzz.target import Target, run

CASES = 100


@pytest.mark.skipif(sys.platform != "linux", reason="the bound on memory is Linux's")
def test_every_parser_accepts_some_of_what_it_is_given_and_refuses_the_rest_as_it_promises() -> None:
    command = [sys.executable, "-m", "fuzz.parsers", "0", str(CASES)]
    child = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True, check=False)
    assert child.returncode == 0, child.stdout[-6000:] + child.stderr[-3000:]
    for target in TARGETS:
        assert f"\n{target.name}: {CASES // target.divisor} cases" in f"\n{child.stdout}"


def test_no_two_targets_have_one_name() -> None:
    assert len({target.name for target in TARGETS}) == len(TARGETS)


def test_a_name_chooses_the_targets_that_begin_with_it() -> None:
    assert {target.name for target in chosen(["tokens.key", "seal"])} >= {"tokens.key", "seal.frame"}
    with pytest.raises(SystemExit, match=r"no target is called nothing; there are: evidence\.message"):
        chosen(["nothing"])


class Promised(Exception):
    pass


class More(Promised):
    pass


def broken(error: BaseException | None, count: int = 60) -> list[str]:
    """What is told of a parser that raises `error` for every other case."""

    def parse(raw: bytes) -> None:
        if raw[0] % 2 and error is not None:
            raise error

    return run(Target("fake", lambda random: bytes([random.randrange(256)]), parse, (Promised,)), 0, count).broken


def test_what_a_parser_promises_is_no_fault() -> None:
    assert broken(Promised("one line")) == []


@pytest.mark.parametrize("error", [ValueError("x"), More("x"), Promised("two\nlines"), Promised("x" * 5000), SystemExit(0)], ids=repr)
def test_another_error_is_told_with_the_name_and_number_of_its_case(error: BaseException) -> None:
    first, *_ = broken(error)
    name, number = first.split(":")[0].split(" ")
    assert (name, int(number) in range(60)) == ("fake", True)


def test_a_target_that_never_refuses_anything_is_told() -> None:
    assert broken(None) == ["fake never refuses anything, so it tests nothing"]


def test_a_target_that_never_accepts_anything_is_told() -> None:
    def refuse(raw: bytes) -> None:
        raise Promised

    assert run(Target("fake", fixed(lambda: b"x"), refuse, (Promised,)), 0, 60).broken == [
        "fake never accepts anything, so it tests nothing"
    ]


def test_a_case_that_takes_too_long_is_broken_off_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def hang(raw: bytes) -> None:
        until_s = time.process_time() + 5
        while time.process_time() < until_s:
            pass

    monkeypatch.setattr(fuzzing, "CPU_S", 0.02)
    outcome = run(Target("fake", fixed(lambda: b"x"), hang, (Promised,)), 7, 1)
    assert "fake 7" in outcome.broken[0]
    assert "TookTooLong" in outcome.broken[0]


def test_the_bytes_of_every_part_are_counted() -> None:
    assert run(Target("fake", lambda _: (b"ab", b"c"), lambda _: None, ()), 0, 10).given_bytes == 30


def test_the_same_number_is_the_same_case() -> None:
    target = Target("fake", fixed(lambda: bytes(100)), lambda _: None, ())
    assert [target.case(number) for number in range(20)] == [target.case(number) for number in range(20)]
