from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from leanto_edge import load
from leanto_edge.compress import compress, dequantized_model
from leanto_edge.compress.calibration import Calibration, read_calibration
from leanto_edge.compress.report import measure_quality
from leanto_edge.compress.source import load_source

SMALL = {"calibration_tokens": 1500, "held_out_tokens": 300, "sweeps": 0}


def text_of(teacher: Path, calibration: Path) -> Calibration:
    source = load_source(teacher)
    return read_calibration(
        calibration, source.tokenizer, vocab_size=source.shape.vocab_size, longest=64, tokens=1500, held_out_tokens=300, seed=0
    )


def test_recovery_brings_the_student_closer_and_what_is_written_is_what_was_measured(
    teacher: Path, calibration: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    report = compress(teacher, out, calibration=calibration, bits=2, uniform=True, recover_minutes=0.1, **SMALL)  # type: ignore[arg-type]
    assert report.untuned is not None
    assert report.quality.kl_mean < 0.9 * report.untuned.kl_mean
    again = measure_quality(load_source(teacher).model, dequantized_model(out), text_of(teacher, calibration).held_out)
    assert abs(again.kl_mean - report.quality.kl_mean) < 1e-3 * report.quality.kl_mean
    assert np.isfinite(load(out).logits([0, 66, 67])).all()
    assert json.loads((out / "leanto.json").read_bytes())["settings"]["recover_minutes"] == 0.1


def test_without_time_to_learn_the_start_stays(teacher: Path, calibration: Path, tmp_path: Path) -> None:
    options = {"calibration": calibration, "bits": 2, "uniform": True, **SMALL}
    compress(teacher, tmp_path / "plain", **options)  # type: ignore[arg-type]
    compress(teacher, tmp_path / "hurried", recover_minutes=1e-9, **options)  # type: ignore[arg-type]
    assert (tmp_path / "plain" / "model.safetensors").read_bytes() == (tmp_path / "hurried" / "model.safetensors").read_bytes()
