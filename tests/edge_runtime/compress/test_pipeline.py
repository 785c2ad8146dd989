from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from artifacts import CONFIG, write_plain
from leanto_edge import ArtifactError, Engine, UnsupportedModelError, load
from leanto_edge.artifact import read_artifact
from leanto_edge.compress import Report, compress, dequantized_model
from leanto_edge.compress.source import load_source

# Engine (int8 activations) against the dequantized model (float32): root mean square of the difference over that of the logits.
ENGINE_BOUND = 0.02

SMALL: dict[str, Any] = {"calibration_tokens": 1000, "held_out_tokens": 200, "sweeps": 1}
UNIFORM: dict[str, Any] = {**SMALL, "uniform": True}


@pytest.fixture(scope="module")
def made(teacher: Path, calibration: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Report]:
    out = tmp_path_factory.mktemp("made") / "four"
    return out, compress(teacher, out, bits=4, calibration=calibration, **SMALL)


def weights(path: Path) -> bytes:
    return (path / "model.safetensors").read_bytes()


def test_the_artifact_is_whole_and_the_work_directory_is_gone(made: tuple[Path, Report]) -> None:
    out, report = made
    artifact = read_artifact(out)
    assert artifact.build_hash == report.build_hash
    assert {matrix["kind"] for matrix in artifact.matrices.values()} <= {"trellis", "int8"}
    assert list(out.parent.iterdir()) == [out]
    assert len(artifact.manifest["teacher_hash"]) == len(artifact.manifest["calibration_hash"]) == 64


def test_the_report_counts_what_lies_on_the_disk(made: tuple[Path, Report]) -> None:
    out, report = made
    assert report.stored_bytes == sum(file.stat().st_size for file in out.iterdir() if file.name != "leanto.json" and file.stem != "report")
    assert report.bits_per_weight == pytest.approx(8 * len(weights(out)) / report.parameters)
    assert sum(matrix.stored_bytes for matrix in report.matrices) < len(weights(out))
    assert json.loads(json.dumps(report.as_dict()))["quality"]["tokens"] == report.quality.tokens
    assert "perplexity" in report.table()


def test_the_same_call_gives_the_same_artifact(made: tuple[Path, Report], teacher: Path, calibration: Path, tmp_path: Path) -> None:
    out, report = made
    again = compress(teacher, tmp_path / "four", bits=4, calibration=calibration, **SMALL)
    assert again.build_hash == report.build_hash
    assert weights(tmp_path / "four") == weights(out)


def test_the_dequantized_model_is_the_one_that_was_measured(made: tuple[Path, Report], teacher: Path) -> None:
    student, original = dequantized_model(made[0]), load_source(teacher).model
    ids = torch.tensor([[0, 40, 50, 60, 70]])
    before, after = (torch.log_softmax(model(ids).logits, -1) for model in (original, student))
    kl = float((before.exp() * (before - after)).sum(-1).mean())
    assert 0 < kl < 20 * made[1].quality.kl_mean + 0.1


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_the_engine_agrees_with_the_dequantized_model(bits: int, untied_teacher: Path, calibration: Path, tmp_path: Path) -> None:
    compress(untied_teacher, tmp_path / "out", bits=bits, rank=2, calibration=calibration, **UNIFORM)
    ids = [0, 66, 67, 68, 69, 70, 71, 72]
    ours = load(tmp_path / "out").logits(ids)
    theirs = dequantized_model(tmp_path / "out")(torch.tensor([ids])).logits[0].numpy()
    assert np.sqrt(np.mean(np.square(ours - theirs)) / np.mean(np.square(theirs))) < ENGINE_BOUND


@pytest.mark.parametrize("bits", [2.6, 3.3, 5.0])
def test_a_budget_is_kept_and_used(bits: float, untied_teacher: Path, calibration: Path, tmp_path: Path) -> None:
    report = compress(untied_teacher, tmp_path / "out", bits=bits, calibration=calibration, **SMALL)
    assert 0.93 * bits < report.bits_per_weight <= bits
    by_bytes = compress(
        untied_teacher, tmp_path / "again", budget_bytes=int(bits * report.parameters / 8), calibration=calibration, **SMALL
    )
    assert weights(tmp_path / "again") == weights(tmp_path / "out")
    assert by_bytes.build_hash == report.build_hash


def test_more_bytes_bring_the_student_closer(made: tuple[Path, Report], teacher: Path, calibration: Path, tmp_path: Path) -> None:
    small = compress(teacher, tmp_path / "small", bits=3, calibration=calibration, **SMALL)
    assert small.bits_per_weight < made[1].bits_per_weight
    assert small.quality.kl_mean > 1.5 * made[1].quality.kl_mean


def test_a_budget_below_the_least_names_the_least(teacher: Path, calibration: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="bytes are too few: the smallest that this model can take is"):
        compress(teacher, tmp_path / "out", bits=1.2, calibration=calibration, **SMALL)


@pytest.mark.parametrize("profile", ["fast", "plain"])
def test_every_profile_runs_in_the_engine(profile: Any, teacher: Path, calibration: Path, tmp_path: Path) -> None:
    compress(teacher, tmp_path / "out", bits=4, profile=profile, calibration=calibration, **SMALL)
    ids = [0, 66, 67, 68, 69, 70]
    ours, theirs = load(tmp_path / "out").logits(ids), dequantized_model(tmp_path / "out")(torch.tensor([ids])).logits[0].numpy()
    assert np.sqrt(np.mean(np.square(ours - theirs)) / np.mean(np.square(theirs))) < ENGINE_BOUND


@pytest.mark.parametrize("method", ["caldera", "gptq", "rtn"])
def test_another_method_is_compared_by_what_it_would_store(method: str, calibration: Path, tmp_path: Path) -> None:
    teacher = write_plain(tmp_path / "teacher", {**CONFIG, "intermediate_size": 176})
    report = compress(teacher, tmp_path / "out", bits=2.5, method=method, calibration=calibration, **UNIFORM)
    layers = [matrix for matrix in report.matrices if matrix.name.startswith("model.layers")]
    assert {matrix.kind for matrix in layers} == {"dense"}
    assert all(1.9 < 8 * matrix.stored_bytes / (matrix.rows * matrix.cols) < 3.1 for matrix in layers)
    assert report.bits_per_weight < 6 < 8 * len(weights(tmp_path / "out")) / report.parameters
    assert np.isfinite(load(tmp_path / "out").logits([0, 66])).all()


def test_guided_hessians_make_another_model(made: tuple[Path, Report], teacher: Path, calibration: Path, tmp_path: Path) -> None:
    report = compress(teacher, tmp_path / "out", bits=4, guided=True, calibration=calibration, **SMALL)
    assert report.build_hash != made[1].build_hash
    assert report.quality.top1_agreement > 0.95


def test_progress_reaches_the_end_of_every_stage(teacher: Path, calibration: Path, tmp_path: Path) -> None:
    heard: list[tuple[str, int, int, float]] = []
    compress(teacher, tmp_path / "out", bits=8, calibration=calibration, progress=lambda *state: heard.append(state), **UNIFORM)
    assert [stage for stage, done, total, _ in heard if done == total] == ["load", "compress", "measure", "write"]
    assert [stage for stage, *_ in heard if stage == "weigh"] == []
    assert all(0 <= done <= total and left >= 0 for _, done, total, left in heard)


CHILD = """
import sys
from leanto_edge.compress import compress
def progress(stage, done, total, left):
    print(stage, done, flush=True)
small = {"calibration_tokens": 1000, "held_out_tokens": 200, "sweeps": 1}
compress(sys.argv[1], sys.argv[2], bits=4, calibration=sys.argv[3], progress=progress, **small)
"""


def test_a_killed_run_goes_on_where_it_stopped(made: tuple[Path, Report], teacher: Path, calibration: Path, tmp_path: Path) -> None:
    out = tmp_path / "four"
    command = [sys.executable, "-c", CHILD, str(teacher), str(out), str(calibration)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as child:
        assert child.stdout is not None
        for line in child.stdout:
            if line.startswith("compress"):
                break
        child.send_signal(signal.SIGKILL)
    assert not out.exists()
    work = tmp_path / ".four.work"
    kept = {file: file.stat().st_mtime_ns for file in work.glob("*.safetensors")}
    assert kept
    seen: dict[Path, int] = {}
    compress(
        teacher,
        out,
        bits=4,
        calibration=calibration,
        progress=lambda *_: seen.update({file: file.stat().st_mtime_ns for file in kept if file.exists()}),
        **SMALL,
    )
    assert seen == kept
    assert weights(out) == weights(made[0])


def test_the_leftovers_of_another_job_are_not_used(teacher: Path, calibration: Path, tmp_path: Path, made: tuple[Path, Report]) -> None:
    work = tmp_path / ".four.work"
    work.mkdir()
    (work / "job.sha256").write_text("0" * 64)
    (work / "model.embed_tokens.safetensors").write_bytes(b"not from this job")
    compress(teacher, tmp_path / "four", bits=4, calibration=calibration, **SMALL)
    assert weights(tmp_path / "four") == weights(made[0])


def test_an_existing_output_is_refused_before_any_work(teacher: Path, calibration: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(ArtifactError, match="already exists"):
        compress(teacher, tmp_path / "out", calibration=calibration)
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize(
    ("change", "error", "reason"),
    [
        ({"model_type": "mamba"}, UnsupportedModelError, "mamba"),
        ({"quantization_config": {"quant_method": "gptq"}}, UnsupportedModelError, "quantized already"),
        ({"hidden_size": 65}, ArtifactError, "cannot be loaded"),
        ({"intermediate_size": 180}, ArtifactError, "lacks weights|cannot be loaded"),
        ({"num_hidden_layers": 3}, ArtifactError, "lacks weights"),
    ],
)
def test_a_source_that_cannot_be_compressed_is_refused(
    tmp_path: Path, calibration: Path, change: dict[str, Any], error: type[Exception], reason: str
) -> None:
    source = write_plain(tmp_path / "source")
    (source / "config.json").write_text(json.dumps({**CONFIG, **change}))
    with pytest.raises(error, match=reason):
        compress(source, tmp_path / "out", calibration=calibration)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["source"]


def test_a_source_that_is_nowhere_is_refused(tmp_path: Path, calibration: Path) -> None:
    with pytest.raises(ArtifactError, match="not a model folder"):
        compress(tmp_path / "nowhere", tmp_path / "out", calibration=calibration)


@pytest.mark.parametrize(
    "wrong",
    [
        {"bits": 0.5},
        {"bits": float("nan")},
        {"budget_bytes": 0},
        {"budget_bytes": 20_000},
        {"calibration_tokens": 0},
        {"embedding_bits": 4},
        {"method": "caldera"},
        {"method": "magic"},
        {"profile": "slow"},
        {"rank": 8},
        {"recover_minutes": -1.0},
        {"uniform": True, "bits": 2.5},
        {"uniform": True, "embedding_bits": 16},
        {"uniform": True, "method": "rtn", "recover_minutes": 1.0},
        {"uniform": True, "rank": -1},
    ],
)
def test_settings_that_make_no_sense_are_refused(teacher: Path, calibration: Path, tmp_path: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"must|choose|too few|for comparison|for uniform"):
        compress(teacher, tmp_path / "out", calibration=calibration, **(SMALL | wrong))
    assert not (tmp_path / "out").exists()


def test_four_and_eight_bits_keep_a_real_model(stories260k: Path, data_dir: Path, tmp_path: Path) -> None:
    text = data_dir / "text" / "tinystories" / "valid.txt"
    limits = {4: 1.12, 8: 1.005}
    for bits, limit in limits.items():
        quality = compress(
            stories260k, tmp_path / str(bits), bits=bits, uniform=True, calibration=text, calibration_tokens=16_000, held_out_tokens=4000
        ).quality
        assert quality.perplexity_after < limit * quality.perplexity_before


def test_the_engine_runs_a_real_compressed_model(stories260k: Path, data_dir: Path, tmp_path: Path) -> None:
    text = data_dir / "text" / "tinystories" / "valid.txt"
    compress(stories260k, tmp_path / "out", uniform=True, calibration=text, calibration_tokens=8000, held_out_tokens=500)
    engine: Engine = load(tmp_path / "out")
    ids = engine.tokenizer.encode("Once upon a time, there was a little girl named Lily. She loved to play outside.")
    theirs = dequantized_model(tmp_path / "out")(torch.tensor([ids])).logits[0].numpy()
    ours = engine.logits(ids)
    assert np.sqrt(np.mean(np.square(ours - theirs)) / np.mean(np.square(theirs))) < ENGINE_BOUND
