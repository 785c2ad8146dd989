from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from artifacts import byte_tokenizer, write_plain
from leanto_edge.artifact.layout import EMBEDDING
from leanto_edge.compress import compress
from leanto_edge.compress.source import load_source
from leanto_edge.compress.student import Student

IDS = torch.tensor([[5, 9, 200, 31, 7]])
MODULE = "model.layers.1.self_attn.v_proj"

# Compresses argv[1] with argv[2] and prints by how many bytes the process's own memory grew at most; mapped files do not count.
MEASURE = """
import sys, threading, time
from leanto_edge.compress import compress

options = {"calibration": sys.argv[1], "bits": 2, "embedding_bits": 2, "uniform": True, "profile": "plain", "sweeps": 0, "threads": 1}
options |= {"calibration_tokens": 600, "held_out_tokens": 100}

def own():
    lines = dict(line.split(":", 1) for line in open("/proc/self/status"))
    return 1024 * int(lines["RssAnon"].split()[0])

def watch():
    global most
    while True:
        most = max(most, own())
        time.sleep(0.002)

compress(sys.argv[2], sys.argv[3], **options)  # what is imported once takes five times as much, and a busy machine hides its peak
before = most = own()
threading.Thread(target=watch, daemon=True).start()
compress(sys.argv[4], sys.argv[5], **options)
print(most - before)
"""


def logits(model: Any) -> Any:
    with torch.no_grad():
        return model(IDS, use_cache=False).logits


def write_half(plain: Path, path: Path, kind: torch.dtype) -> Path:
    """The same model with weights of 16 bits, and with a config that names another type, as some on the hub do."""
    AutoModelForCausalLM.from_pretrained(plain, dtype=kind).save_pretrained(path)
    config = json.loads((path / "config.json").read_bytes())
    (path / "config.json").write_text(json.dumps(config | {"dtype": "float32"}))
    (path / "tokenizer.json").write_bytes(byte_tokenizer())
    return path


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
def test_weights_of_16_bits_are_computed_with_in_float32(teacher: Path, tmp_path: Path, kind: torch.dtype) -> None:
    half = write_half(teacher, tmp_path / "half", kind)
    source = load_source(half)
    assert torch.equal(logits(source.model), logits(AutoModelForCausalLM.from_pretrained(half, dtype=torch.float32)))
    assert source.model.get_submodule(MODULE).weight.dtype == kind  # mapped as it lies there
    assert source.weight(MODULE).dtype == torch.float32
    assert {vector.dtype for vector in source.vectors().values()} == {np.dtype(np.float32)}


def test_a_model_of_16_bits_is_compressed_and_recovered_like_its_float32_twin(teacher: Path, calibration: Path, tmp_path: Path) -> None:
    half = write_half(teacher, tmp_path / "half", torch.bfloat16)
    twin = tmp_path / "twin"
    AutoModelForCausalLM.from_pretrained(half, dtype=torch.float32).save_pretrained(twin)
    (twin / "tokenizer.json").write_bytes(byte_tokenizer())
    options: dict[str, Any] = {"calibration": calibration, "bits": 3, "sweeps": 0, "calibration_tokens": 600, "held_out_tokens": 100}
    for source in (half, twin):
        compress(source, source.with_suffix(".out"), guided=True, **options)
    weights = [source.with_suffix(".out").joinpath("model.safetensors").read_bytes() for source in (half, twin)]
    assert weights[0] == weights[1]
    report = compress(half, tmp_path / "recovered", recover_minutes=0.02, **options)
    assert report.untuned is not None
    assert report.quality.kl_mean < report.untuned.kl_mean


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("module", [MODULE, EMBEDDING])
def test_an_exchanged_weight_serves_everywhere_and_the_teacher_never_sees_it(
    teacher: Path, tmp_path: Path, kind: torch.dtype, module: str
) -> None:
    source = load_source(write_half(teacher, tmp_path / "half", kind))
    whole = AutoModelForCausalLM.from_pretrained(source.path, dtype=torch.float32)  # its embedding is tied
    before, student = logits(source.model), Student(source)
    assert torch.equal(logits(student.model), before)
    weight = source.weight(module).numpy() * np.float32(1.5)
    student.hold(module, weight)
    with torch.no_grad():
        whole.get_submodule(module).weight.copy_(torch.from_numpy(weight))
    assert torch.equal(logits(student.model), logits(whole))
    assert not torch.equal(logits(student.model), before)
    assert torch.equal(logits(source.model), before)
    student.release(module)
    assert torch.equal(logits(student.model), before)


def test_memory_does_not_grow_with_the_number_of_layers(teacher: Path, calibration: Path, tmp_path: Path) -> None:
    config = {**json.loads((teacher / "config.json").read_bytes()), "hidden_size": 128, "intermediate_size": 512}
    give_back = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}  # at once, what is freed
    most = []
    for layers in (2, 12):
        path = write_plain(tmp_path / f"{layers}", {**config, "num_hidden_layers": layers})
        command = [
            sys.executable,
            "-c",
            MEASURE,
            *map(str, (calibration, teacher, tmp_path / f"first-{layers}", path, tmp_path / f"out-{layers}")),
        ]
        found = subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ | give_back)
        most.append(int(found.stdout))
    layer = 4 * (4 * 128 * 128 + 3 * 128 * 512)
    assert most[1] - most[0] < 10 * layer / 2  # teacher and student in memory would take 20 more layers
