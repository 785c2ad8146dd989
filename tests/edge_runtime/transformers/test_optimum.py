"""Optimum's quantizer and command line give what leanto_edge.compress gives."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="compresses")
transformers = pytest.importorskip("transformers", reason="compresses")
pytest.importorskip("optimum.quantization_base", reason="Optimum is an extra (pip install 'leanto[optimum]')")

import leanto_edge  # noqa: E402
from architectures import tiny_config, write_teacher  # noqa: E402
from conftest import ROOT  # noqa: E402
from leanto_edge import ArtifactError, DependencyError  # noqa: E402
from leanto_edge.compress import compress  # noqa: E402
from leanto_edge.transformers.optimum import LeantoQuantizer  # noqa: E402

REGISTRATION = ROOT / "edge_runtime" / "optimum_leanto"
OPTIONS: dict[str, Any] = {"bits": 4, "uniform": True, "calibration_tokens": 300, "held_out_tokens": 100, "sweeps": 0, "threads": 1}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A teacher in `teacher` and a text to calibrate on in `text`."""
    path = tmp_path_factory.mktemp("optimum")
    write_teacher(path / "teacher", {**tiny_config("llama"), "num_hidden_layers": 1})
    random = np.random.default_rng(0)
    documents = ["".join(random.choice(list("abcdefgh ."), 60)) for _ in range(20)]
    (path / "text").write_text("\n<|endoftext|>\n".join(documents))
    return path


def test_the_quantizer_writes_what_compress_writes(folder: Path, tmp_path: Path) -> None:
    report = LeantoQuantizer.from_pretrained(folder / "teacher").quantize(tmp_path / "a", calibration=folder / "text", **OPTIONS)
    assert report.build_hash == compress(folder / "teacher", tmp_path / "b", calibration=folder / "text", **OPTIONS).build_hash
    assert leanto_edge.load(tmp_path / "a").info.build_hash == report.build_hash


def test_a_model_in_memory_takes_its_tokenizer_along(folder: Path, tmp_path: Path) -> None:
    model = transformers.AutoModelForCausalLM.from_pretrained(folder / "teacher")
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_file=str(folder / "teacher" / "tokenizer.json"))
    quantizer = LeantoQuantizer.from_pretrained(model, tokenizer=tokenizer)
    quantizer.quantize(save_dir=tmp_path / "out", calibration=folder / "text", **OPTIONS)
    engine = leanto_edge.load(tmp_path / "out")
    assert engine.info.name == "teacher"
    assert engine.tokenizer.encode("lean")[1:] == tokenizer.encode("lean")


def test_a_model_in_memory_without_a_tokenizer_is_refused(folder: Path, tmp_path: Path) -> None:
    model = transformers.AutoModelForCausalLM.from_pretrained(folder / "teacher")
    model.config.name_or_path = str(tmp_path / "absent")
    with pytest.raises(ArtifactError, match="needs the model's tokenizer"):
        LeantoQuantizer.from_pretrained(model).quantize(tmp_path / "out", calibration=folder / "text")


def test_without_optimum_its_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optimum.quantization_base", None)
    monkeypatch.delitem(sys.modules, "leanto_edge.transformers.optimum")
    with pytest.raises(DependencyError, match=r"leanto\[optimum\]"):
        importlib.import_module("leanto_edge.transformers.optimum")


def test_names_of_files_cannot_be_chosen(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="file_name"):
        LeantoQuantizer.from_pretrained(folder / "teacher", "model.bin")
    with pytest.raises(ValueError, match="file_prefix"):
        LeantoQuantizer.from_pretrained(folder / "teacher").quantize(tmp_path / "out", "prefix", calibration=folder / "text")


@pytest.fixture
def optimum_cli(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Optimum's command line with the registration of optimum-leanto on the path."""
    if importlib.util.find_spec("optimum.commands.register.register_leanto") is None:  # it may be installed
        monkeypatch.syspath_prepend(REGISTRATION)
    from optimum.commands import optimum_cli as command

    def run(*arguments: str) -> None:
        monkeypatch.setattr(sys, "argv", ["optimum-cli", *arguments])
        command.main()

    return run


def test_the_command_line_compresses(optimum_cli: Any, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    few = ["--calibration-tokens", "300", "--held-out-tokens", "100", "--bits", "6", "--threads", "1"]
    optimum_cli(
        "leanto", "compress", "-m", str(folder / "teacher"), "-o", str(tmp_path / "out"), "--calibration", str(folder / "text"), *few
    )
    found = leanto_edge.load(tmp_path / "out").info
    assert found.bits_per_weight <= 6
    assert f"{tmp_path / 'out'}: {found.stored_bytes} bytes" in capsys.readouterr().out


def test_a_mistake_on_the_command_line_is_one_line(optimum_cli: Any, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"optimum-cli leanto compress: .*already exists"):
        optimum_cli("leanto", "compress", "-m", str(folder / "teacher"), "-o", str(tmp_path), "--calibration", str(folder / "text"))
