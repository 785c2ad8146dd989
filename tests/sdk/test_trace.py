from __future__ import annotations

import json
import logging
import os
from pathlib import Path

import pytest

from leanto import Decision, Snapshot
from leanto.trace import DecisionLog


def decision() -> Decision:
    return Decision("r1", "p", "e", None, "call", "personal", Snapshot(), (), "local", ("confident",))


def test_each_decision_is_one_appended_json_line(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    for _ in range(2):
        log = DecisionLog(path)
        log.write(decision())
        log.close()
    records = [json.loads(line) for line in path.read_text().splitlines()]
    assert [record["label"] for record in records] == ["confident", "confident"]


def test_only_the_owner_may_read_the_log(tmp_path: Path) -> None:
    DecisionLog(tmp_path / "log").close()
    assert os.stat(tmp_path / "log").st_mode & 0o077 == 0


def test_a_full_disk_costs_the_line_and_not_the_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    log = DecisionLog(tmp_path / "log")

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched, caplog.at_level(logging.WARNING, "leanto"):
        patched.setattr(os, "write", full)
        log.write(decision())
    assert "No space left" in caplog.text
    log.close()
