"""Every supported architecture against transformers in float32, and compressed against its dequantized self."""

from __future__ import annotations

import functools
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

torch = pytest.importorskip("torch", reason="the oracle is transformers")
pytest.importorskip("transformers", reason="the oracle is transformers")

import leanto_edge  # noqa: E402
from architectures import ARCHITECTURES, tiny_config, write_compressed, write_teacher  # noqa: E402
from leanto_edge import ArtifactError, Engine, GenerationRequest, SamplingParams  # noqa: E402
from leanto_edge.artifact.layout import matrix_sizes  # noqa: E402
from leanto_edge.compress import compress, dequantized_model  # noqa: E402

LOGIT_BOUND = 2e-5  # against transformers in float32, relative to the largest logit
ENGINE_BOUND = 0.02  # int8 activations against float32: root mean square of the difference over that of the logits
LENGTH = 80  # more than one pass of the prefill, and far past every window
IDS = np.random.default_rng(1).integers(2, 262, LENGTH).astype(np.int32)


class Pair:
    """A teacher, the engine on its folder, and what the teacher makes of IDS."""

    def __init__(self, path: Path, config: dict[str, Any]) -> None:
        self.path, self.teacher = path, write_teacher(path, config)
        self.engine = leanto_edge.load(path, kv_cache="float32")
        self.expected = logits_of(self.teacher)


def logits_of(model: Any) -> np.ndarray[Any, np.dtype[np.float32]]:
    with torch.no_grad():
        return np.asarray(model(torch.from_numpy(IDS[None].astype(np.int64))).logits[0])


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Pair]:
    """One pair for each name of ARCHITECTURES, made when first asked for."""
    return functools.cache(lambda name: Pair(tmp_path_factory.mktemp("teacher"), tiny_config(name)))


@pytest.fixture(params=ARCHITECTURES)
def pair(request: pytest.FixtureRequest, pairs: Callable[[str], Pair]) -> Pair:
    return pairs(request.param)


def test_logits_are_those_of_transformers_in_one_go(pair: Pair) -> None:
    assert np.abs(pair.engine.logits(IDS) - pair.expected).max() <= LOGIT_BOUND * np.abs(pair.expected).max()


def test_logits_are_those_of_transformers_token_by_token(pair: Pair) -> None:
    model = pair.engine.model
    cache = model.new_cache(LENGTH, "float32")
    rows = [model.logits(cache, IDS[:3])] + [model.logits(cache, IDS[i : i + 1]) for i in range(3, LENGTH)]
    assert np.abs(np.concatenate(rows) - pair.expected).max() <= LOGIT_BOUND * np.abs(pair.expected).max()


def test_greedy_generation_is_that_of_transformers(pair: Pair) -> None:
    engine = pair.engine
    prompt = engine.tokenizer.encode("lean on")
    whole = pair.teacher.generate(torch.tensor([prompt]), max_new_tokens=16, do_sample=False)[0].tolist()
    request = GenerationRequest("lean on", sampling=SamplingParams(max_tokens=16))
    assert prompt + [token.id for token in engine.complete(request).tokens] == whole


def test_any_token_of_a_list_ends_the_answer(pairs: Callable[[str], Pair], tmp_path: Path) -> None:
    pair = pairs("qwen2")
    request = GenerationRequest("lean on", sampling=SamplingParams(max_tokens=8))
    ids = [token.id for token in pair.engine.complete(request).tokens]
    completion = edited(pair, tmp_path, {"eos_token_id": [263, ids[5], 1]}).complete(request)
    assert [token.id for token in completion.tokens] == ids[: ids.index(ids[5]) + 1]
    assert completion.finish_reason == "stop"


def edited(pair: Pair, folder: Path, change: dict[str, Any]) -> Engine:
    """An engine on the same weights with another config."""
    shutil.copytree(pair.path, folder, dirs_exist_ok=True)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **change}))
    return leanto_edge.load(folder)


ROPE = {"rope_type": "default", "rope_theta": 1e4}
COUNTS: list[tuple[str, dict[str, Any]]] = [
    ("llama 3", {"rope_parameters": ROPE}),
    ("llama, linear", {"rope_parameters": ROPE}),
    ("llama", {"rope_parameters": {**ROPE, "rope_theta": 2e4}}),
    ("mistral", {"sliding_window": 8}),
    ("qwen2, windows", {"layer_types": None, "max_window_layers": 3}),
    ("qwen3", {"rope_parameters": ROPE}),
    ("phi3", {"sliding_window": 31}),
    ("phi3, longrope, short", {"original_max_position_embeddings": LENGTH - 1}),
    ("phi3, longrope, long", {"original_max_position_embeddings": LENGTH}),
    ("phi3, longrope, long", {"max_position_embeddings": 1024}),
    ("smollm3", {"no_rope_layers": [1, 1, 1, 1]}),
    ("smollm3", {"rope_parameters": ROPE}),
    ("gemma2", {"attn_logit_softcapping": 3.0}),
    ("gemma2", {"final_logit_softcapping": None}),
    ("gemma2", {"query_pre_attn_scalar": 16}),
    ("gemma2", {"layer_types": ["full_attention"] * 4}),
    ("gemma3", {"sliding_window": 7}),
    ("gemma3", {"rope_parameters": {"full_attention": ROPE, "sliding_attention": ROPE}}),
    ("gemma3", {"rope_parameters": {"full_attention": {**ROPE, "rope_theta": 1e6}, "sliding_attention": ROPE}}),
]


@pytest.mark.parametrize(("name", "change"), COUNTS, ids=lambda value: value if isinstance(value, str) else ",".join(value))
def test_every_setting_counts(name: str, change: dict[str, Any], pairs: Callable[[str], Pair], tmp_path: Path) -> None:
    pair = pairs(name)
    difference = np.abs(edited(pair, tmp_path, change).logits(IDS) - pair.expected).max()
    assert difference > 1000 * LOGIT_BOUND * np.abs(pair.expected).max()


def test_the_engine_agrees_with_the_dequantized_model_after_compression(pair: Pair, tmp_path: Path) -> None:
    write_compressed(pair.path, tmp_path / "out")
    ours = leanto_edge.load(tmp_path / "out").logits(IDS)
    theirs = logits_of(dequantized_model(tmp_path / "out"))
    assert np.sqrt(np.mean(np.square(ours - theirs)) / np.mean(np.square(theirs))) < ENGINE_BOUND


def test_a_missing_bias_or_head_norm_is_named(pairs: Callable[[str], Pair], tmp_path: Path) -> None:
    for name, lost in (("qwen2", "model.layers.1.self_attn.k_proj.bias"), ("qwen3", "model.layers.3.self_attn.q_norm.weight")):
        folder = Path(shutil.copytree(pairs(name).path, tmp_path / name))
        tensors = load_file(folder / "model.safetensors")
        for broken, reason in (({lost: None}, "lacks the tensor"), ({lost: tensors[lost] * np.nan}, "not finite")):
            kept = {key: value for key, value in {**tensors, **broken}.items() if value is not None}
            save_file(kept, folder / "model.safetensors", {"format": "pt"})
            with pytest.raises(ArtifactError, match=reason) as caught:
                leanto_edge.load(folder)
            assert lost in str(caught.value)


@pytest.mark.parametrize("name", ["phi3, longrope, short", "gemma3"])
def test_compression_works_from_end_to_end(name: str, pairs: Callable[[str], Pair], tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    documents = ["".join(random.choice(list("abcdefgh ."), 60)) for _ in range(40)]
    (tmp_path / "text").write_text("\n<|endoftext|>\n".join(documents))
    report = compress(
        pairs(name).path,
        tmp_path / "out",
        bits=4,
        uniform=True,
        calibration=tmp_path / "text",
        calibration_tokens=800,
        held_out_tokens=200,
        sweeps=0,
    )
    assert {matrix.name for matrix in report.matrices} == set(matrix_sizes(pairs(name).engine.shape))
    assert report.quality.top1_agreement > 0.5
    ours, theirs = leanto_edge.load(tmp_path / "out").logits(IDS), logits_of(dequantized_model(tmp_path / "out"))
    assert np.sqrt(np.mean(np.square(ours - theirs)) / np.mean(np.square(theirs))) < ENGINE_BOUND
