"""`leanto train-router`: a router that can be loaded comes of a file of outcomes, and a mistake is one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from leanto.cli import main
from leanto.router import Router

HARD = '{{"prompt": "prove lemma {n}", "local_right": false, "cloud_right": true, "group": "g{g}"}}'
EASY = '{{"prompt": "greet number {n}", "local_right": true, "cloud_right": true, "group": "g{g}"}}'


@pytest.fixture
def logged(tmp_path: Path) -> Path:
    path = tmp_path / "outcomes.jsonl"
    path.write_text("\n".join((HARD if n % 3 == 0 else EASY).format(n=n, g=n % 7) for n in range(90)))
    return path


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["train-router", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    return err


def test_a_router_is_learnt_and_says_how_good_it_is(logged: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "router"
    assert main(["train-router", str(logged), "--out", str(out)]) == 0
    shown = capsys.readouterr().out
    assert "90; the local answer was not worse in 66.7%" in shown
    assert "prompts of 7 groups held out whole" in shown
    router = Router.load(out)
    assert router.score("prove theorem 5") < router.score("greet everybody")


def test_the_report_can_be_had_as_json(logged: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train-router", str(logged), "--out", str(tmp_path / "router"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == Router.load(tmp_path / "router").report


def test_a_mistake_is_one_line_and_leaves_no_file(logged: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    new, few = str(tmp_path / "new"), tmp_path / "few"
    few.write_text('{"prompt": "a", "gain": 1}')
    assert "already exists" in refused(capsys, str(logged), "--out", str(logged))
    assert "cannot be read" in refused(capsys, "absent", "--out", new)
    assert "1 outcomes, the cloud better in 1: at least 50" in refused(capsys, str(few), "--out", new)
    assert not Path(new).exists()
