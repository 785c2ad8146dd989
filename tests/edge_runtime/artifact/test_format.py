"""docs/format.md against the golden artifact, read by a second reader that knows only that page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from leanto_edge import load
from leanto_edge.artifact import read_artifact

GOLDEN = Path(__file__).parents[2] / "golden" / "artifact"
EXPECTED: dict[str, Any] = json.loads((GOLDEN / "expected.json").read_text())
Doubles = np.ndarray[Any, np.dtype[np.float64]]

LOGIT_BOUND = 2e-3  # other instruction sets sum in another order, and a rounded activation may fall the other way


def rotation(dimension: int, seed: int) -> Doubles:
    """R as a matrix, from the page's definition."""
    if seed == 0:
        return np.eye(dimension)
    odd, power = dimension, 1
    while odd % 2 == 0:
        odd, power = odd // 2, power * 2
    hadamard = np.array([[(-1) ** (i & j).bit_count() for j in range(power)] for i in range(power)]) / np.sqrt(power)
    cosine = np.array([[np.cos(np.pi * (j + 0.5) * k / odd) * np.sqrt((2 if k else 1) / odd) for j in range(odd)] for k in range(odd)])
    signs = np.empty(dimension)
    for i in range(dimension):
        z = (seed + (i + 1) * 0x9E3779B97F4A7C15) % 2**64
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) % 2**64
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) % 2**64
        signs[i] = -1 if (z ^ (z >> 31)) >> 63 else 1
    return np.kron(cosine, hadamard) * signs


def trellis_values(codes: np.ndarray[Any, Any], tables: np.ndarray[Any, Any], bits: int) -> Doubles:
    """The integers (m', n') of the codes, bit by bit."""
    rows, columns = codes.shape[0] * 8 // bits, codes.shape[1]
    values = np.empty((rows, columns))
    for top in range(0, rows, 256):
        height = min(256, rows - top)
        for column in range(columns):
            block = codes[top * bits // 8 : (top + height) * bits // 8, column]
            string = [int(byte) >> i & 1 for byte in block for i in range(8)]
            for t in range(height):
                w = sum(string[(bits * t + i) % len(string)] << i for i in range(12))
                w0, w4, w8 = w & 15, (w >> 4) & 15, w >> 8
                values[top + t, column] = int(tables[0][w0 ^ w8]) + int(tables[1][w4 ^ ((w8 << 1) & 15)])
    return values


@pytest.mark.parametrize("module", EXPECTED["weights"])
def test_the_page_is_enough_to_read_every_kind_of_matrix(module: str) -> None:
    entry = json.loads((GOLDEN / "tiny" / "config.json").read_text())["quantization_config"]["matrices"][module]
    tensors = load_file(GOLDEN / "tiny" / "model.safetensors")
    m, n = entry["rows"], entry["cols"]
    codes = tensors[f"{module}.codes"]
    values = trellis_values(codes, tensors[f"{module}.tables"], entry["bits"]) if entry["kind"] == "trellis" else codes.astype(float)
    w = values[:m, :n] * tensors[f"{module}.scales"].astype(float)[:, None]
    if entry["rank"]:
        w += tensors[f"{module}.left"].astype(float) @ tensors[f"{module}.right"].astype(float)
    w = rotation(m, entry["out_seed"]).T @ w @ rotation(n, entry["in_seed"])
    np.testing.assert_allclose((w @ np.cos(np.arange(n)))[:8], EXPECTED["weights"][module], atol=5e-5)


def test_the_golden_artifact_keeps_its_build_hash() -> None:
    assert read_artifact(GOLDEN / "tiny").build_hash == EXPECTED["build_hash"]


def test_the_golden_artifact_keeps_its_logits() -> None:
    logits = load(GOLDEN / "tiny", kv_cache="float32").logits(EXPECTED["ids"])
    np.testing.assert_allclose(logits[:, :12], EXPECTED["logits"], atol=LOGIT_BOUND)
