from __future__ import annotations

import json

import pytest

from leanto.cli import main


def run(*arguments: str) -> int:
    return main(["bench", "decode", "--context", "8", "24", "--tokens", "4", *arguments])


def test_bench_measures_every_count_of_threads_at_every_context(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--threads", "1", "2", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert [(row["threads"], row["context"]) for row in found["speeds"]] == [(1, 8), (1, 24), (2, 8), (2, 24)]
    assert all(row["prefill"] > 0 and row["decode"] > 0 for row in found["speeds"])
    assert found["resident_bytes"] > found["stored_bytes"] > 0
    assert found["first_token_s"] > 0


def test_bench_prints_a_table_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--threads", "1") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("pocket")
    assert lines[-3].split() == ["threads", "context", "prefill", "tok/s", "decode", "tok/s"]
    assert [line.split()[:2] for line in lines[-2:]] == [["1", "8"], ["1", "24"]]


@pytest.mark.parametrize(("options", "reason"), [(("--context", "4000"), "4000 + 4 tokens"), (("--threads", "0"), "at least 1")])
def test_what_cannot_be_measured_is_said_in_one_line(capsys: pytest.CaptureFixture[str], options: tuple[str, str], reason: str) -> None:
    assert run(*options) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert reason in err
    assert err.count("\n") == 1
