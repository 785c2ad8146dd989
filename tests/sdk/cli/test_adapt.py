"""`leanto adapt` and `--adapter`: what is learnt can be asked for, and a mistake is one line."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

import leanto
import leanto_edge
from artifacts import write_plain, write_tiny
from leanto.cli import main
from leanto_edge.adapter import largest_ranks, write_adapter
from leanto_edge.artifact import read_artifact

EXAMPLES = "".join(json.dumps({"prompt": f"say {letter}", "completion": " hello"}) + "\n" for letter in "abcdefghij")


@pytest.fixture
def examples(tmp_path: Path) -> Path:
    path = tmp_path / "examples.jsonl"
    path.write_text(EXAMPLES)
    return path


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    """An adapter of the embedded model that learnt nothing."""
    base = read_artifact(leanto_edge.embedded())
    module = next(iter(largest_ranks(base)))
    rows, cols = base.matrices[module]["rows"], base.matrices[module]["cols"]
    write_adapter(tmp_path / "a", base, {module: (np.zeros((rows, 1), np.float16), np.zeros((1, cols), np.float16))}, training={})
    return tmp_path / "a"


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    return err


def test_what_is_learnt_can_be_asked_for(examples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("torch", reason="adaptation needs the compress extra")
    model, out = str(write_plain(tmp_path / "model")), str(tmp_path / "out")
    assert main(["adapt", model, "--data", str(examples), "--minutes", "0.03", "--rank", "2", "-o", out]) == 0
    shown = capsys.readouterr().out
    assert f"leanto ask --model {model} --adapter {out} …" in shown
    assert "8 to learn from, 2 set aside" in shown
    assert main(["ask", "say a", "--model", model, "--adapter", out, "--max-tokens", "2"]) == 0


def test_the_result_can_be_had_as_json(examples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("torch", reason="adaptation needs the compress extra")
    model, out = str(write_plain(tmp_path / "model")), tmp_path / "out"
    assert main(["adapt", model, "--data", str(examples), "--minutes", "0.02", "-o", str(out), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["stored_bytes"] == out.stat().st_size
    assert result["loss_after"] <= result["loss_before"]


def test_an_answer_with_an_adapter_is_not_called_calibrated(adapter: Path) -> None:
    with leanto.Client() as plain, leanto.Client(adapter=adapter) as changed:
        before, after = (client.ask("wake me at six") for client in (plain, changed))
    assert before.text == after.text
    assert before.decision.calibrated
    assert not after.decision.calibrated
    assert after.decision.label == "no-cloud, uncalibrated" or "uncalibrated" in (after.decision.label or "")


def test_the_doctor_sees_an_adapter(adapter: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["doctor", "--adapter", str(adapter)])
    assert "verified" in capsys.readouterr().out
    main(["doctor", "--model", str(write_tiny(tmp_path / "other").path), "--adapter", str(adapter)])
    assert "belongs to the model of build" in capsys.readouterr().out


def test_an_adapter_of_another_model_is_refused(adapter: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = write_tiny(tmp_path / "other").path
    assert "belongs to the model of build" in refused(capsys, "ask", "hi", "--model", str(other), "--adapter", str(adapter))


def test_an_adapter_needs_a_model_by_its_path(adapter: Path) -> None:
    with pytest.raises(leanto.ModelError, match="give the model's path"):
        leanto.Client(model=leanto_edge.load(leanto_edge.embedded()), adapter=adapter)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--data", "absent.jsonl", "--minutes", "1", "-o", "new"), "absent.jsonl: the examples cannot be read"),
        (("--data", "EXAMPLES", "--minutes", "1", "-o", "EXAMPLES"), "already exists"),
        (("--data", "EXAMPLES", "--minutes", "0", "-o", "new"), "--minutes 0.0: must be above 0"),
        (("--data", "EXAMPLES", "--minutes", "nan", "-o", "new"), "--minutes nan: must be above 0"),
        (("--data", "EXAMPLES", "--minutes", "1", "-o", "new", "--rank", "0"), "--rank 0: at least 1"),
        (("--data", "EXAMPLES", "--minutes", "1", "-o", "new", "--seed", "-1"), "--seed -1: at least 0"),
    ],
)
def test_a_mistake_is_one_line(examples: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], says: str) -> None:
    assert says in refused(capsys, "adapt", *(str(examples) if option == "EXAMPLES" else option for option in options))


def test_a_bad_example_is_named_by_its_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("torch", reason="adaptation needs the compress extra")
    (tmp_path / "x.jsonl").write_text(EXAMPLES + "{}\n")
    line = refused(capsys, "adapt", "--data", str(tmp_path / "x.jsonl"), "--minutes", "1", "-o", str(tmp_path / "new"))
    assert "line 11 is none of the known forms" in line


def test_a_model_that_is_nowhere_is_refused(examples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("torch", reason="adaptation needs the compress extra")
    arguments = ("adapt", str(tmp_path / "no"), "--data", str(examples), "--minutes", "1", "-o", str(tmp_path / "new"))
    assert "is not a model directory" in refused(capsys, *arguments)


def test_without_the_extra_the_message_names_it(
    examples: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    for name in [name for name in sys.modules if name.startswith("leanto_edge.compress")]:
        monkeypatch.delitem(sys.modules, name)
    line = refused(capsys, "adapt", "--data", str(examples), "--minutes", "1", "-o", str(tmp_path / "new"))
    assert "pip install 'leanto[compress]'" in line
