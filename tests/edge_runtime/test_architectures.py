"""Every supported architecture against transformers in float32, and compressed against its dequantized self."""

from __future__ import annotations

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the oracle is transformers")
pytest.importorskip("transformers", reason="the oracle is transformers")

import leanto_edge  # noqa: E402
from architectures import ARCHITECTURES, tiny_config, write_teacher  # noqa: E402
from artifacts import byte_tokenizer  # noqa: E402
from leanto_edge import ArtifactError, GenerationRequest, SamplingParams, UnsupportedModelError  # noqa: E402
from leanto_edge.architecture import ModelShape  # noqa: E402
from leanto_edge.artifact import write_artifact  # noqa: E402
from leanto_edge.compress import compress, dequantized_model  # noqa: E402
from leanto_edge.compress.matrix import compress_matrix  # noqa: E402
from leanto_edge.compress.source import load_source  # noqa: E402
from leanto_edge.layout import EMBEDDING, HEAD, MatrixSpec, matrix_sizes, shared_input_groups, vector_sizes  # noqa: E402

LOGIT_BOUND = 1e-3  # against transformers in float32, relative to the largest logit
ENGINE_BOUND = 0.02  # int8 activations against float32: root mean square of the difference over that of the logits
LENGTH = 80  # more than one pass of the prefill, and far past every window
IDS = np.random.default_rng(1).integers(2, 262, LENGTH).astype(np.int32)


class Pair:
    """A teacher, the engine on its folder, and what each makes of IDS."""

    def __init__(self, path: Path, config: dict[str, Any]) -> None:
        self.path, self.teacher = path, write_teacher(path, config)
        self.engine = leanto_edge.load(path)
        with torch.no_grad():
            self.expected = self.teacher(torch.from_numpy(IDS[None].astype(np.int64))).logits[0].numpy()


@pytest.fixture(scope="module", params=ARCHITECTURES)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return Pair(tmp_path_factory.mktemp("teacher"), tiny_config(request.param))


def test_logits_are_those_of_transformers_in_one_go(pair: Pair) -> None:
    assert np.abs(pair.engine.logits(IDS) - pair.expected).max() <= LOGIT_BOUND * np.abs(pair.expected).max()


def test_logits_are_those_of_transformers_token_by_token(pair: Pair) -> None:
    model = pair.engine.model
    cache = model.new_cache(LENGTH)
    rows = [model.logits(cache, IDS[:3])] + [model.logits(cache, IDS[i : i + 1]) for i in range(3, LENGTH)]
    assert np.abs(np.concatenate(rows) - pair.expected).max() <= LOGIT_BOUND * np.abs(pair.expected).max()


def test_greedy_generation_is_that_of_transformers(pair: Pair) -> None:
    engine = pair.engine
    prompt = engine.tokenizer.encode("lean on")
    whole = pair.teacher.generate(torch.tensor([prompt]), max_new_tokens=16, do_sample=False)[0].tolist()
    request = GenerationRequest("lean on", sampling=SamplingParams(max_tokens=16))
    assert prompt + [token.id for token in engine.complete(request).tokens] == whole


def specs(shape: ModelShape) -> dict[str, MatrixSpec]:
    """int8 for what reads the hidden state first, trellis codes with rotations and a low rank for the rest."""
    found: dict[str, MatrixSpec] = {}
    sizes = matrix_sizes(shape)
    for seed, group in enumerate([(EMBEDDING,), *shared_input_groups(shape), *([] if shape.tie_embeddings else [(HEAD,)])], start=1):
        for name in group:
            table = name in (EMBEDDING, HEAD)
            kind, bits = ("int8", 8) if table or "qkv" in name or "v_proj" in name else ("trellis", 4)
            found[name] = MatrixSpec(kind, bits, *sizes[name], 0 if table else 2, seed, 0 if table else 100 + seed)  # type: ignore[arg-type]
    return found


def test_the_engine_agrees_with_the_dequantized_model_after_compression(pair: Pair, tmp_path: Path) -> None:
    source = load_source(pair.path)
    with ThreadPoolExecutor(1) as executor:
        made = {
            name: compress_matrix(source.weight(name).numpy(), np.eye(spec.cols), spec, sweeps=0, executor=executor)
            for name, spec in specs(source.shape).items()
        }
    tensors = {f"{name}.{part}": tensor for name, matrix in made.items() for part, tensor in matrix.tensors.items()}
    matrices = {name: matrix.spec for name, matrix in made.items()}
    write_artifact(tmp_path / "out", source.config, matrices, tensors | source.vectors(), source.small_files(), {})
    ours = leanto_edge.load(tmp_path / "out").logits(IDS)
    with torch.no_grad():
        theirs = dequantized_model(tmp_path / "out")(torch.from_numpy(IDS[None].astype(np.int64))).logits[0].numpy()
    assert np.sqrt(np.mean(np.square(ours - theirs)) / np.mean(np.square(theirs))) < ENGINE_BOUND
