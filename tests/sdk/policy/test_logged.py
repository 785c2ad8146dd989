from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import strategies
from leanto import Decision, Policy, Snapshot
from leanto.cli import main
from leanto.decision import Check, Facts, Promise, Spent
from leanto.errors import UserError
from leanto.policy.logged import Logged, read_log
from leanto.policy.replay import replay
from leanto.report import replay_page

CHECKS = (
    Check("constraints", "privacy", "personal", "local, cloud", "pass", ("local", "cloud"), "where", "a class"),
    Check("stream", "mean_logprob_16", -0.5, -2.5, "pass", ("local", "cloud")),
    Check("stream", "low_logprob", -0.7, None, "pass", ("local", "cloud")),
    Check("stream", "repeats", 2, 4, "pass", ("local", "cloud")),
    Check("answer", "valid_call", True, True, "pass", ("local", "cloud")),
    Check("answer", "confidence", 0.9, 0.5, "pass", ("local", "cloud")),
)
FACTS = Facts("call", "personal", 8, ("call", "text"), 256, cloud_configured=True, expected_local_ms=9.5, score="s")
FINE = Snapshot(80.0, True, 0.2, 10**9, 40.0, "up", strained=("cpu_load",))
WHOLE = Decision(
    *("r", "p", "e", "large", "call", "personal", FINE, CHECKS, "local", ("confident",), FACTS, Spent()),
    confidence=0.9, artifact_threshold=0.5, promise=Promise(0.4, ""), calibrated=True, ece=0.1, local_tokens=9, usd=0.1, bytes_sent=7,
    ttft_ms=1.0, total_ms=12.0, energy_j=0.5, energy_source="rapl", wasted_j=0.0, decided_at=5.0, cloud_evidence="tdx:00",
)  # fmt: skip
LINE = json.loads(json.dumps(WHOLE.to_dict()))
POLICY = Policy()


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where something stands in a JSON value."""
    if path:
        yield path
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, part in inside:
        yield from places(part, (*path, name))


def changed(path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    line: Any = copy.deepcopy(LINE)
    place = line
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = value
    return line


def read(tmp_path: Path, *lines: str) -> tuple[list[Logged], int]:
    (tmp_path / "log").write_text("\n".join(lines) + "\n", encoding="utf-8", errors="surrogatepass")
    return read_log(tmp_path / "log")


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.just(10**400) | st.floats() | st.text() | st.sampled_from(["local", "call", "up"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=400)
@given(st.sampled_from(sorted(places(LINE), key=str)), anything)
def test_any_value_in_any_place_gives_a_replay_or_a_skipped_line(
    tmp_path_factory: pytest.TempPathFactory, path: tuple[Any, ...], value: Any
) -> None:
    log, skipped = read(tmp_path_factory.getbasetemp(), json.dumps(LINE), json.dumps(changed(path, value)))
    assert len(log) + skipped == 2
    found = replay(log, POLICY, skipped=skipped)
    assert found.after.requests + found.after.unreplayable + skipped == 2
    assert replay_page(log, found, POLICY, None).html()


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("total_ms",), "12"),
        (("total_ms",), None),
        (("total_ms",), -1.0),
        (("total_ms",), float("nan")),
        (("energy_j",), "x"),
        (("usd",), None),
        (("confidence",), "high"),
        (("confidence",), 7),
        (("checks", 0, "name"), 3),
        (("checks", 1, "value"), 10**400),
        (("checks", 1, "value"), "x"),
        (("checks", 2, "value"), "x"),
        (("checks", 4, "value"), "yes"),
        (("facts", "prompt_tokens"), None),
        (("facts", "privacy"), ["personal"]),
        (("facts", "task"), "sing"),
        (("facts",), None),
        (("snapshot", "strained"), 5),
        (("snapshot", "battery_percent"), "full"),
        (("spent", "bytes_sent"), "x"),
        (("spent", "last_day"), []),
        (("promise",), "abc"),
        (("route",), 5),
        (("route",), "moon"),
        (("checks",), "abc"),
        (("calibrated",), 1),
    ],
)
def test_a_value_of_another_kind_costs_its_line(tmp_path: Path, path: tuple[Any, ...], value: Any) -> None:
    log, skipped = read(tmp_path, json.dumps(LINE), json.dumps(changed(path, value)))
    assert (len(log), skipped) == (1, 1)


@pytest.mark.parametrize("line", ["{", "[1]", "5", '"x"', "[" * 100_000, json.dumps(LINE)[:500], "1" * 5000])
def test_a_line_that_is_no_record_is_skipped(tmp_path: Path, line: str) -> None:
    assert read(tmp_path, line, json.dumps(LINE))[1] == 1


def test_a_blank_line_is_nothing_and_a_cut_one_costs_itself_alone(tmp_path: Path) -> None:
    log, skipped = read(tmp_path, json.dumps(LINE), "", json.dumps(LINE)[:99], json.dumps(LINE))
    assert (len(log), skipped) == (2, 1)


def test_what_a_later_version_adds_is_passed_over(tmp_path: Path) -> None:
    assert read(tmp_path, json.dumps({**LINE, "moon": "full", "facts": {**LINE["facts"], "moon": 1}}))[1] == 0


@settings(max_examples=100)
@given(strategies.facts, strategies.snapshots, strategies.spendings)
def test_what_was_known_is_read_as_it_was_written(
    tmp_path_factory: pytest.TempPathFactory, facts: Facts, snapshot: Snapshot, spent: Spent
) -> None:
    one = Decision("r", "p", "e", None, facts.task, facts.privacy, snapshot, CHECKS, "local", (), facts, spent)
    ((line,), skipped) = read(tmp_path_factory.getbasetemp(), json.dumps(one.to_dict()))
    assert (line.facts, line.snapshot, line.spent, skipped) == (facts, snapshot, spent, 0)
    assert (line.lowest, line.window, line.low, line.repeats, line.valid_call) == (-0.5, 16, -0.7, 2, True)


def test_the_command_counts_what_it_cannot_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "p.toml").write_text("version = 1\n")
    (tmp_path / "log").write_text(f"{json.dumps(LINE)}\n{json.dumps(changed(('energy_j',), 'x'))}\n")
    assert main(["policy", "replay", str(tmp_path / "log"), "--policy", str(tmp_path / "p.toml")]) == 0
    assert "1 lines skipped" in capsys.readouterr().out


def test_a_log_of_nothing_but_broken_lines_is_an_error_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "p.toml").write_text("version = 1\n")
    (tmp_path / "log").write_text("{\n")
    assert main(["policy", "replay", str(tmp_path / "log"), "--policy", str(tmp_path / "p.toml")]) == UserError.exit_code
    assert "no decision" in capsys.readouterr().err
