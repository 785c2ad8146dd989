"""Budgets of a day survive a restart by default, and a client that has none writes nothing."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from asking import BETTER, CALL, client
from fakes import UNSURE, FakeClock, FakeCloud, FakeEdge, call_tokens, chunks
from leanto import AsyncClient, Client, OutputError, parse_policy
from leanto.cli import main
from leanto.policy.schema import Policy
from leanto.state import state_file, state_folder

ONE_CALL = "version = 1\n[budgets]\ncloud_calls_per_day = 1\n[quality.confidence_threshold]\ncall = 1.0\n"


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state"


def route(policy: Policy, **options: Any) -> str:
    async def run() -> str:
        at = client(FakeEdge(call_tokens(CALL, UNSURE)), FakeCloud(chunks(BETTER)), policy, **options)
        async with at:
            return (await at.ask("when do I wake")).route

    return asyncio.run(run())


@pytest.mark.parametrize(
    ("platform", "environ", "expected"),
    [
        ("linux", {"HOME": "/home/a"}, "/home/a/.local/state/leanto"),
        ("linux", {"HOME": "/home/a", "XDG_STATE_HOME": "/s"}, "/s/leanto"),
        ("linux", {"HOME": "/home/a", "XDG_STATE_HOME": "relative"}, "/home/a/.local/state/leanto"),
        ("linux", {}, None),
        ("darwin", {"HOME": "/Users/a"}, "/Users/a/Library/Application Support/leanto"),
        ("win32", {"LOCALAPPDATA": "/c/Users/a/AppData/Local"}, "/c/Users/a/AppData/Local/leanto"),
        ("win32", {"HOME": "/c"}, None),
    ],
)
def test_state_lies_where_the_system_wants_it(platform: str, environ: dict[str, str], expected: str | None) -> None:
    assert state_folder(environ, platform) == (None if expected is None else Path(expected))


def test_a_budget_of_a_day_survives_a_restart_by_default() -> None:
    assert [route(parse_policy(ONE_CALL)) for _ in range(3)] == ["local→cloud", "local", "local"]


def test_a_ledger_of_ones_own_is_used_instead(tmp_path: Path, home: Path) -> None:
    assert [route(parse_policy(ONE_CALL), ledger=tmp_path / "mine") for _ in range(2)] == ["local→cloud", "local"]
    assert not home.exists()


@pytest.mark.skipif(sys.platform == "win32", reason="no file modes")
def test_what_is_kept_is_its_owners_alone(home: Path) -> None:
    with Client(policy=parse_policy(ONE_CALL), sources=()):
        assert (home / "leanto").stat().st_mode & 0o777 == 0o700
        assert {path.stat().st_mode & 0o777 for path in (home / "leanto").iterdir()} == {0o600}


def test_a_client_without_such_a_budget_writes_nothing(home: Path) -> None:
    route(parse_policy("version = 1\n[budgets]\ncloud_bytes_per_session = 10\n"))
    assert not home.exists()


@pytest.mark.parametrize("limit", ["cloud_bytes_per_day", "cloud_calls_per_day", "cloud_usd_per_day", "local_joules_per_day"])
def test_every_budget_of_a_day_and_the_audits_are_remembered(limit: str) -> None:
    assert parse_policy(f"version = 1\n[budgets]\n{limit} = 5\n").remembers
    assert parse_policy('version = 1\n[audit]\nshare = 0.1\nclasses = ["personal"]\n').remembers
    assert not Policy().remembers


def test_a_home_that_cannot_be_written_is_an_error_that_names_the_way_out(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home.write_text("a file")
    with pytest.raises(OutputError, match="set XDG_STATE_HOME, or name another file"):
        Client(policy=parse_policy(ONE_CALL), sources=())
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.delenv("HOME", raising=False)
    with pytest.raises(OutputError, match="no home folder"):
        state_file("ledger.db")


def test_a_budget_that_comes_with_a_reload_counts_what_was_spent_before_it_and_survives_a_restart(tmp_path: Path, home: Path) -> None:
    file, clock = tmp_path / "p.toml", FakeClock(now=1e9)
    file.write_text(ONE_CALL.replace("cloud_calls_per_day = 1", ""))

    async def run() -> list[str]:
        edge, cloud = FakeEdge(call_tokens(CALL, UNSURE)), FakeCloud(chunks(BETTER))
        async with AsyncClient(model=edge, cloud=cloud, policy=file, sources=(), clock=clock.clock) as at:
            first = await at.ask("when do I wake")
            assert not home.exists()
            file.write_text(ONE_CALL)
            os.utime(file, (1, 1))
            clock.advance(60)
            at.policy  # noqa: B018 (seen to have changed)
            clock.advance(60)
            return [first.route, (await at.ask("when do I wake")).route]

    assert asyncio.run(run()) == ["local→cloud", "local"]
    assert route(parse_policy(ONE_CALL), clock=clock.clock) == "local"


def test_the_command_line_keeps_one_too(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "p.toml").write_text(ONE_CALL)
    assert main(["ask", "wake me at six", "--policy", str(tmp_path / "p.toml"), "--ledger", str(tmp_path / "mine")]) == 0
    assert (tmp_path / "mine").exists()
    assert not home.exists()
    assert main(["ask", "wake me at six", "--policy", str(tmp_path / "p.toml")]) == 0
    assert (home / "leanto/ledger.db").exists()
    assert main(["audit"]) == 0
    assert "no audits yet" in capsys.readouterr().out
