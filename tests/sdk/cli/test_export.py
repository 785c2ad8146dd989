"""`leanto export`: a file and one line, or one line of what was wrong."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

import leanto_edge
from leanto.cli import main

pytest.importorskip("gguf", reason="the gguf library writes the files (extra gguf)")

POCKET = str(leanto_edge.embedded())


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line on stderr of a user's mistake."""
    assert main(["export", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    return err


def test_the_file_is_named_and_what_is_different_noted(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "pocket.gguf"
    assert main(["export", POCKET, "-o", str(file)]) == 0
    out, err = capsys.readouterr()
    assert out == f"{file}: {file.stat().st_size} bytes, weights as q8_0\n"
    assert err.startswith("leanto: note: the tokenizer puts a space in front")


def test_the_type_can_be_chosen_and_the_result_read_by_a_program(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "pocket.gguf"
    assert main(["export", POCKET, "-o", str(file), "--type", "f16", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["file"], found["bytes"], found["type"]) == (str(file), file.stat().st_size, "f16")


def test_an_existing_file_is_left_alone(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    assert "already exists" in refused(capsys, POCKET, "-o", str(tmp_path / "mine"))
    assert (tmp_path / "mine").read_text() == "mine"


def test_a_model_that_is_none_and_a_place_that_is_none_are_told_apart(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert "is not a model directory" in refused(capsys, str(tmp_path / "absent"), "-o", str(tmp_path / "out"))
    assert "cannot be written" in refused(capsys, POCKET, "-o", str(tmp_path / "absent" / "out"))


def test_without_the_library_the_extra_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "gguf", None)
    assert "pip install 'leanto[gguf]'" in refused(capsys, POCKET, "-o", str(tmp_path / "out"))
