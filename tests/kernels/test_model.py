from __future__ import annotations

import gc
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

import leanto_kernels as kernels
from leanto_kernels import reference

pytestmark = pytest.mark.usefixtures("isa")

QUANTIZED_BOUND = 0.02  # one activation that rounds the other way moves a logit by about this share of the largest

FORMS: dict[str, dict[str, Any]] = {
    "dense": {"kind": "dense"},
    "int8": {"kind": "int8"},
    "trellis1": {"kind": "trellis", "bits": 1},
    "trellis2": {"kind": "trellis", "bits": 2},
    "trellis3": {"kind": "trellis", "bits": 3},
    "trellis4": {"kind": "trellis", "bits": 4},
    "additive1": {"kind": "additive", "bits": 1},
    "additive2": {"kind": "additive", "bits": 2},
    "scalar3": {"kind": "scalar", "bits": 3},
    "scalar4": {"kind": "scalar", "bits": 4},
}
FACTORS = ({"rank": 2}, {"rank": 9, "factor_bits": 8}, {"rank": 16, "factor_bits": 4})


def ids(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 77, count).astype(np.int32)


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize(("rank", "rotated", "tied"), [(0, False, True), (5, True, True), (3, True, False), (0, True, False)])
def test_logits_equal_the_oracle_for_every_kind(build: Callable[..., Any], name: str, rank: int, rotated: bool, tied: bool) -> None:
    parts = build({**FORMS[name], "rank": rank}, tied=tied, rotated=rotated)
    model, tokens = parts.model(), ids(9)
    ours = model.logits(model.new_cache(9, "float32"), tokens)
    oracle = reference.model_logits(parts.config, parts.matrices, parts.tensors, tokens)
    bound = reference.MODEL_BOUND if name == "dense" else QUANTIZED_BOUND
    assert ours.shape == oracle.shape == (9, 77)
    assert np.abs(ours - oracle).max() <= bound * np.abs(oracle).max()


@pytest.mark.parametrize(("factor_bits", "rank"), [(8, 5), (8, 9), (8, 20), (4, 8), (4, 16)])
@pytest.mark.parametrize("name", ["int8", "trellis2", "additive2", "scalar4"])
@pytest.mark.parametrize(("rotated", "tied"), [(False, True), (True, False)])
def test_logits_equal_the_oracle_with_rounded_factors(
    build: Callable[..., Any], name: str, factor_bits: int, rank: int, rotated: bool, tied: bool
) -> None:
    parts = build({**FORMS[name], "rank": rank, "factor_bits": factor_bits}, tied=tied, rotated=rotated)
    model, tokens = parts.model(), ids(9)
    ours = model.logits(model.new_cache(9, "float32"), tokens)
    oracle = reference.model_logits(parts.config, parts.matrices, parts.tensors, tokens)
    assert np.abs(ours - oracle).max() <= QUANTIZED_BOUND * np.abs(oracle).max()


@pytest.mark.parametrize("factor_bits", [8, 4])
def test_a_matrix_that_is_all_low_rank_equals_the_oracle_to_rounding(build: Callable[..., Any], factor_bits: int) -> None:
    """A head alone after a single embedding row: one product, and no second quantization that could round the other way."""
    parts = build({"kind": "dense"}, tied=False, num_layers=1)
    for name in [n for n in parts.tensors if n.endswith(("o_proj.weight", "down_proj.weight"))]:
        parts.tensors[name][:] = 0  # the layer adds nothing
    other = build({"kind": "additive", "bits": 2, "rank": 8, "factor_bits": factor_bits}, tied=False, num_layers=1, seed=1)
    del parts.tensors["lm_head.weight"]
    parts.matrices["lm_head"] = other.matrices["lm_head"]
    parts.tensors |= {n: t for n, t in other.tensors.items() if n.startswith("lm_head.")}
    parts.tensors["lm_head.scales"][:] = 0
    model, tokens = parts.model(), ids(3)
    oracle = reference.model_logits(parts.config, parts.matrices, parts.tensors, tokens)
    assert np.abs(oracle).max() > 0.1
    assert np.abs(model.logits(model.new_cache(3, "float32"), tokens) - oracle).max() <= reference.LOW_RANK_BOUND * np.abs(oracle).max()


LONG = {"frequencies": [1.0, 0.3, 0.01], "long_frequencies": [0.5, 0.1, 0.001], "original_length": 20, "scale": 1.2}
LOCAL = {"frequencies": [2.0, 0.2, 0.02]}
DIFFERENCES: dict[str, dict[str, Any]] = {
    "biases": {"qkv_bias": True, "output_bias": True, "mlp_bias": True},
    "fused projections with biases": {"fused_projections": True, "qkv_bias": True, "mlp_bias": True},
    "ropes and none": {"num_layers": 3, "ropes": [LONG, LOCAL], "layer_ropes": [1, -1, 0]},
    "windows": {"layer_windows": [5, 0]},
    "head norms": {"head_norms": True, "attention_scale": 0.2},
    "sandwich norms": {"sandwich_norms": True, "norm_offset": 0.5, "activation": "gelu", "embedding_scale": 3.0},
    "soft caps": {"attention_softcap": 0.5, "logit_softcap": 0.7, "attention_scale": 1.0},
}

STRUCTURE = ("num_layers", "ropes", "fused_projections")  # without which the rest makes no sense


@pytest.mark.parametrize("name", DIFFERENCES)
@pytest.mark.parametrize("form", ["dense", "trellis4"])
@pytest.mark.parametrize("length", [15, 80])  # one pass, and two
def test_what_differs_between_architectures_equals_the_oracle(build: Callable[..., Any], name: str, form: str, length: int) -> None:
    parts, tokens = build({**FORMS[form]}, rotated=True, **DIFFERENCES[name]), ids(length)
    model = parts.model()
    ours = model.logits(model.new_cache(length, "float32"), tokens)
    oracle = reference.model_logits(parts.config, parts.matrices, parts.tensors, tokens)
    bound = reference.MODEL_BOUND if form == "dense" else QUANTIZED_BOUND
    assert np.abs(ours - oracle).max() <= bound * np.abs(oracle).max()
    cache = model.new_cache(length, "float32")
    model.prefill(cache, tokens[: length - 3])
    assert [model.step(cache, int(token)) for token in tokens[-3:]] == [kernels.sample(row) for row in ours[-3:]]


@pytest.mark.parametrize(("name", "key"), [(name, key) for name, keys in DIFFERENCES.items() for key in keys if key not in STRUCTURE])
def test_every_difference_counts(build: Callable[..., Any], name: str, key: str) -> None:
    parts = build(**DIFFERENCES[name])
    model, config = parts.model(), {other: value for other, value in parts.config.items() if other != key}
    without = kernels.Model(config, parts.matrices, parts.tensors)
    before, after = (m.logits(m.new_cache(15), ids(15)) for m in (model, without))
    assert np.abs(before - after).max() > 5 * QUANTIZED_BOUND * np.abs(before).max()


def test_kinds_mix_within_one_model(build: Callable[..., Any]) -> None:
    parts, other = build({"kind": "int8"}, rotated=True), build({"kind": "trellis", "bits": 3, "rank": 2}, rotated=True)
    for module in ("model.layers.0.self_attn.k_proj", "model.layers.1.mlp.up_proj", "model.embed_tokens"):
        for name in [n for n in parts.tensors if n.startswith(module + ".")]:
            del parts.tensors[name]
        parts.matrices[module] = other.matrices[module]
        parts.tensors |= {n: t for n, t in other.tensors.items() if n.startswith(module + ".")}
    model, tokens = parts.model(), ids(6)
    oracle = reference.model_logits(parts.config, parts.matrices, parts.tensors, tokens)
    assert np.abs(model.logits(model.new_cache(6, "float32"), tokens) - oracle).max() <= QUANTIZED_BOUND * np.abs(oracle).max()


@pytest.mark.parametrize(("name", "factors"), [(name, factors) for name in FORMS for factors in FACTORS[: 1 if name == "dense" else 3]])
def test_steps_prefill_and_batches_agree(build: Callable[..., Any], name: str, factors: dict[str, int]) -> None:
    model = build({**FORMS[name], **factors}, rotated=True).model()
    tokens = ids(150)  # more than one pass of the prefill
    every = model.logits(model.new_cache(150), tokens)
    cache = model.new_cache(150)
    np.testing.assert_array_equal(model.prefill(cache, tokens[:100]), every[99])
    for i in range(100, 150):
        assert cache.length == i
        step = model.step(cache, int(tokens[i]))
        assert step == kernels.sample(every[i])
    assert cache.length == cache.capacity == 150


@pytest.mark.parametrize(
    ("name", "factors"),
    [
        ("dense", {"rank": 4}), ("int8", {"rank": 9, "factor_bits": 8}), ("trellis2", {"rank": 4}),
        ("additive2", {"rank": 24, "factor_bits": 4}), ("scalar4", {"rank": 18, "factor_bits": 8}),
    ],
)  # fmt: skip
def test_the_number_of_threads_does_not_change_a_bit(build: Callable[..., Any], name: str, factors: dict[str, int]) -> None:
    parts = build({**FORMS[name], **factors}, rotated=True, hidden_size=192, intermediate_size=320, head_dim=24)
    model, tokens = parts.model(), ids(70)
    one = model.logits(model.new_cache(70), tokens, threads=1)
    for threads in (2, 3, 500):
        np.testing.assert_array_equal(model.logits(model.new_cache(70), tokens, threads=threads), one)


@pytest.mark.parametrize("storage", ["float32", "float16", "int8"])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_steps_are_single_steps_up_to_the_first_surprise(build: Callable[..., Any], storage: str, temperature: float) -> None:
    model = build({"kind": "trellis", "bits": 2}, rotated=True).model()
    us = np.random.default_rng(1).random(12)
    cache = model.new_cache(40, storage)
    model.prefill(cache, ids(20))
    singles, token = [], 5
    for u in us:
        singles.append(model.step(cache, token, temperature, u=float(u), top=2))
        token = singles[-1][0]
    for right in (0, 4, 11):  # drafts that are right, before one that is not
        draft = np.array([5, *(single[0] for single in singles[:11])], np.int32)
        draft[right + 1 :] = (draft[right + 1 :] + 1) % 77
        cache.truncate(20)
        found = model.steps(cache, draft, us, temperature, top=2)
        assert found == singles[: right + 1]
        assert cache.length == 20 + len(found)


def test_int8_keys_and_values_take_half_of_float16(build: Callable[..., Any]) -> None:
    model = build().model()
    each = {storage: model.new_cache(5, storage).bytes_per_token for storage in ("float32", "float16", "int8")}
    assert each["float32"] == 2 * each["float16"] == 4 * (each["int8"] - 2 * 2 * 2 * 4)  # two layers of two heads, a scale for k and v
    tokens = ids(70)
    exact = model.logits(model.new_cache(70, "float32"), tokens)
    for storage, bound in (("float16", 2e-3), ("int8", 0.05)):
        difference = np.abs(model.logits(model.new_cache(70, storage), tokens) - exact).max() / np.abs(exact).max()
        assert 0 < difference < bound


def test_a_step_samples_like_sample(build: Callable[..., Any]) -> None:
    model = build().model()
    logits = model.logits(model.new_cache(4), ids(4))[-1]
    for arguments in (
        (0.7, 0.9, 10, 0.3, None),
        (1.0, 1.0, 0, 0.8, np.array([3, 9, 60], np.int32)),
        (0.0, 1.0, 0, 0.0, np.array([76], np.int32)),
    ):
        cache = model.new_cache(4)
        model.prefill(cache, ids(4)[:3])
        assert model.step(cache, int(ids(4)[3]), *arguments) == kernels.sample(logits, *arguments)


def test_a_truncated_cache_continues_as_if_the_rest_had_not_been(build: Callable[..., Any]) -> None:
    model, tokens = build().model(), ids(20)
    cache = model.new_cache(20)
    model.prefill(cache, ids(20, seed=5))
    cache.truncate(7)
    assert cache.length == 7
    fresh = model.new_cache(20)
    model.prefill(fresh, ids(20, seed=5)[:7])
    np.testing.assert_array_equal(model.prefill(cache, tokens[:13]), model.prefill(fresh, tokens[:13]))


@pytest.mark.parametrize("factors", [{"rank": 3}, {"rank": 3, "factor_bits": 8}, {"rank": 8, "factor_bits": 4}], ids=str)
def test_read_only_and_unaligned_arrays_are_read_in_place(build: Callable[..., Any], factors: dict[str, int]) -> None:
    parts = build({"kind": "trellis", "bits": 2, **factors}, rotated=True)
    expected = (model := parts.model()).prefill(model.new_cache(5), ids(5))
    for name, tensor in parts.tensors.items():
        raw = np.frombuffer(b"\0" + tensor.tobytes(), np.uint8)[1:]
        parts.tensors[name] = raw.view(tensor.dtype).reshape(tensor.shape)
        assert not parts.tensors[name].flags.writeable
    model = parts.model()
    np.testing.assert_array_equal(model.prefill(model.new_cache(5), ids(5)), expected)


def test_the_model_keeps_its_arrays_and_a_cache_its_model_alive(build: Callable[..., Any]) -> None:
    parts = build({"kind": "int8"})
    model = parts.model()
    expected = model.prefill(model.new_cache(5), ids(5))
    parts.tensors.clear()
    gc.collect()
    cache = model.new_cache(5)
    np.testing.assert_array_equal(model.prefill(cache, ids(5)), expected)
    del model
    gc.collect()
    cache.truncate(0)
    assert cache.capacity == 5


def test_a_real_model_goes_on_as_recorded(stories260k: Path) -> None:
    tensors = load_file(stories260k / "model.safetensors")
    golden = json.loads((stories260k / "golden.json").read_text(encoding="utf-8"))["greedy_ids"]
    config: dict[str, int | float | bool] = {
        "hidden_size": 64, "intermediate_size": 172, "num_layers": 5, "num_heads": 8, "num_kv_heads": 4, "head_dim": 8,
        "vocab_size": 512, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "tie_embeddings": True,
    }  # fmt: skip
    forms = {
        name.removesuffix(".weight"): {"kind": "dense", "rows": t.shape[0], "cols": t.shape[1]}
        for name, t in tensors.items()
        if t.ndim == 2
    }
    model = kernels.Model(config, forms, {name: t.astype(np.float32) for name, t in tensors.items()})
    cache = model.new_cache(len(golden), "float32")
    written = golden[:1]
    while len(written) < len(golden):
        written.append(model.step(cache, written[-1])[0])
    assert written == golden


@pytest.mark.parametrize("count", [1, 9, 64, 65, 130])
def test_the_state_is_what_the_last_logits_were_made_of(build: Callable[..., Any], count: int) -> None:
    parts = build({"kind": "dense"}, tied=False)
    model = parts.model()
    cache = model.new_cache(count + 1, "float32")
    with pytest.raises(ValueError, match="read nothing"):
        cache.state()
    logits = model.prefill(cache, ids(count))
    state = cache.state()
    head = parts.tensors["lm_head.weight"].astype(np.float32)
    assert state.shape == (head.shape[1],)
    assert np.abs(head @ state - logits).max() <= reference.MODEL_BOUND * np.abs(logits).max()
    model.step(cache, 5)
    assert (cache.state() != state).any()
