from __future__ import annotations

import json
from pathlib import Path

import pytest

from leanto.cli import main


def findings(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, tuple[str, str]]]:
    code = main(["doctor", "--json", *arguments])
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    return code, {finding["name"]: (finding["state"], finding["detail"]) for finding in found}


def test_a_model_that_is_absent_is_broken_and_said_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, found = findings(capsys, "--model", str(tmp_path / "absent"))
    assert code == 1
    assert found["model"][0] == "broken"
    assert found["kernels"][0] == "fine"
    assert found["cloud"] == ("absent", "no target configured: nothing ever leaves this device")


def test_a_real_model_is_described(stories260k: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, found = findings(capsys, "--model", str(stories260k), "--simulate", "battery=9%,link=up")
    assert code == 0
    assert "260032 parameters" in found["model"][1]
    assert found["battery_percent"] == ("fine", "9.0")


def test_an_unreachable_cloud_is_broken(stories260k: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, found = findings(capsys, "--model", str(stories260k), "--cloud", "127.0.0.1:9", "--development-root", "A" * 43 + "=")
    assert code == 1
    assert found["cloud"][0] == "broken"
