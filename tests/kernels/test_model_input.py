from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import leanto_kernels as kernels

FORM = {"kind": "trellis", "bits": 2, "rank": 3}
LAYER = "model.layers.1."


def refused(parts: Any, mention: str) -> None:
    with pytest.raises(ValueError, match=mention):
        parts.model()


BYTES = {"kind": "additive", "bits": 3, "rank": 3, "factor_bits": 8}
NIBBLES = {"kind": "scalar", "bits": 3, "rank": 8, "factor_bits": 4}


@pytest.mark.parametrize("form", [FORM, BYTES, NIBBLES, {"kind": "int8"}, {"kind": "dense"}], ids=lambda form: form["kind"])
def test_every_missing_or_misshapen_tensor_is_named(build: Callable[..., Any], form: dict[str, Any]) -> None:
    whole = build(form, tied=False, rotated=True)
    for name, tensor in whole.tensors.items():
        wrong_type = np.float64 if tensor.dtype.kind == "f" else np.int16
        for bad in (None, tensor[:-1], tensor[..., :0], tensor[None], tensor.astype(wrong_type), np.concatenate([tensor, tensor])):
            parts = build(form, tied=False, rotated=True)
            if bad is None:
                del parts.tensors[name]
            else:
                parts.tensors[name] = bad
            refused(parts, name.replace(".", r"\."))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("kind", "pickle"), ("kind", 3), ("bits", 0), ("bits", 5), ("bits", 2.5), ("rows", 81), ("cols", 0), ("rows", -80), ("rows", 2**62),
        ("rank", -1), ("rank", 4), ("rank", 2**40), ("in_seed", -1), ("in_seed", 2**64), ("out_seed", "x"),
    ],
)  # fmt: skip
def test_a_matrix_form_that_does_not_fit_is_named(build: Callable[..., Any], key: str, value: Any) -> None:
    parts = build(FORM, rotated=True)
    parts.matrices[LAYER + "mlp.gate_proj"][key] = value
    refused(parts, "mlp.gate_proj")


@pytest.mark.parametrize(
    ("form", "key", "value"),
    [
        (BYTES, "factor_bits", 0), (BYTES, "factor_bits", 2), (BYTES, "factor_bits", 32), (BYTES, "factor_bits", "8"),
        (BYTES, "factor_bits", 16), (BYTES, "factor_bits", 4), (BYTES, "rank", 2**40), (BYTES, "kind", "dense"), (BYTES, "kind", "scalar"),
        (NIBBLES, "rank", 12), (NIBBLES, "rank", 16), (NIBBLES, "rank", 88), (NIBBLES, "bits", 0),
    ],
)  # fmt: skip
def test_a_form_of_rounded_factors_that_does_not_fit_is_named(
    build: Callable[..., Any], form: dict[str, Any], key: str, value: Any
) -> None:
    parts = build(form, rotated=True)
    parts.matrices[LAYER + "mlp.gate_proj"][key] = value
    refused(parts, "mlp.gate_proj")


@pytest.mark.parametrize("side", ["left", "right"])
def test_factors_that_hold_the_code_that_does_not_exist_are_refused(build: Callable[..., Any], side: str) -> None:
    parts = build(BYTES)
    parts.tensors[f"{LAYER}mlp.up_proj.{side}"][-1, -1] = -128
    refused(parts, rf"up_proj\.{side}.*-128")


def test_factor_tables_whose_sums_overflow_are_refused(build: Callable[..., Any]) -> None:
    parts = build(NIBBLES)
    parts.tensors[LAYER + "mlp.up_proj.factor_tables"] = np.full((2, 16), 64, np.int8)
    refused(parts, "up_proj.factor_tables")


def test_scalar_codes_with_a_second_table_are_refused(build: Callable[..., Any]) -> None:
    parts = build(NIBBLES)
    parts.tensors["model.embed_tokens.tables"][1, 5] = 1
    refused(parts, "embed_tokens.tables")


def test_a_missing_matrix_is_named(build: Callable[..., Any]) -> None:
    parts = build(FORM)
    del parts.matrices[LAYER + "mlp.down_proj"]
    refused(parts, "mlp.down_proj")


def test_matrices_that_share_an_input_must_share_its_seed(build: Callable[..., Any]) -> None:
    for module in ("self_attn.k_proj", "self_attn.v_proj", "mlp.up_proj"):
        parts = build(FORM, rotated=True)
        parts.matrices[LAYER + module]["in_seed"] += 1
        refused(parts, module)


def test_an_embedding_rotated_on_its_output_is_refused(build: Callable[..., Any]) -> None:
    parts = build(FORM)
    parts.matrices["model.embed_tokens"]["out_seed"] = 5
    refused(parts, "embed_tokens")


def test_tables_whose_sums_overflow_are_refused(build: Callable[..., Any]) -> None:
    parts = build(FORM)
    parts.tensors["model.embed_tokens.tables"] = np.full((2, 16), 100, np.int8)
    refused(parts, "embed_tokens.tables")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("hidden_size", 0), ("hidden_size", -48), ("hidden_size", 2**40), ("num_heads", 5), ("head_dim", 9), ("num_kv_heads", 0),
        ("vocab_size", 1), ("vocab_size", 78), ("num_layers", 3), ("intermediate_size", 81), ("rms_norm_eps", -1.0),
        ("rms_norm_eps", float("nan")), ("rope_theta", 0.0), ("rope_theta", float("inf")), ("hidden_size", "48"), ("tie_embeddings", 1),
    ],
)  # fmt: skip
def test_a_config_that_does_not_fit_is_refused(build: Callable[..., Any], key: str, value: Any) -> None:
    parts = build()
    parts.config[key] = value
    with pytest.raises(ValueError):
        parts.model()


TABLE = {"frequencies": [1.0, 0.5, 0.1, 0.05, 0.01]}


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("ropes", [], "at least one"), ("ropes", [TABLE, {"frequencies": [1.0]}], "same number"),
        ("ropes", [{"frequencies": [1.0] * 6}], "within"),
        ("ropes", [{**TABLE, "long_frequencies": [1.0]}], "as many"), ("ropes", [{"frequencies": [np.nan] * 5}], "finite"),
        ("ropes", [{**TABLE, "scale": 0.0}], "scale of a rope"), ("ropes", [{}], "rope: frequencies is missing"),
        ("ropes", 3, "ropes has the wrong type"),
        ("ropes", [{**TABLE, "original_length": -1}], "original_length has the wrong type"), ("layer_ropes", [0], "layer_ropes"),
        ("layer_ropes", [0, 1], "layer_ropes"), ("layer_ropes", [0, -2], "layer_ropes"), ("layer_windows", [3], "layer_windows"),
        ("layer_windows", [3, -1], "layer_windows"), ("attention_scale", 0.0, "attention_scale"), ("attention_softcap", -1.0, "softcap"),
        ("logit_softcap", np.inf, "softcap"), ("embedding_scale", np.nan, "embedding_scale"), ("norm_offset", np.inf, "norm_offset"),
        ("activation", "relu", "silu or gelu"), ("head_norms", 1, "head_norms has the wrong type"), ("fused_projections", True, "qkv_proj"),
        ("qkv_bias", True, "q_proj.bias is missing"), ("output_bias", True, "o_proj.bias is missing"),
        ("mlp_bias", True, "gate_proj.bias is missing"),
        ("head_norms", True, "q_norm.weight is missing"), ("sandwich_norms", True, "pre_feedforward_layernorm.weight is missing"),
    ],
)  # fmt: skip
def test_what_differs_from_a_plain_llama_is_checked_too(build: Callable[..., Any], key: str, value: Any, reason: str) -> None:
    parts = build()
    parts.config[key] = value
    refused(parts, reason)


def test_a_missing_config_key_is_named(build: Callable[..., Any]) -> None:
    for key in build().config:
        parts = build()
        del parts.config[key]
        refused(parts, key)


def test_strided_tensors_are_refused(build: Callable[..., Any]) -> None:
    parts = build()
    name = "model.embed_tokens.weight"
    parts.tensors[name] = np.repeat(parts.tensors[name], 2, axis=1)[:, ::2]
    refused(parts, "contiguous")


@pytest.mark.parametrize("ids", [[77], [-1], [2**31 - 1], []])
def test_ids_outside_the_vocabulary_are_refused(build: Callable[..., Any], ids: list[int]) -> None:
    model = build().model()
    cache = model.new_cache(8)
    for call in (model.prefill, model.logits):
        with pytest.raises(ValueError):
            call(cache, np.array(ids, np.int32))
    for token in (*ids, -(2**40), 2**40):
        with pytest.raises(ValueError):
            model.step(cache, token)
    assert cache.length == 0


def test_a_full_cache_refuses_more(build: Callable[..., Any]) -> None:
    model = build().model()
    cache = model.new_cache(3)
    with pytest.raises(ValueError, match="do not fit"):
        model.prefill(cache, np.zeros(4, np.int32))
    with pytest.raises(ValueError, match="do not fit"):
        model.logits(cache, np.zeros(4, np.int32))
    model.prefill(cache, np.zeros(3, np.int32))
    with pytest.raises(ValueError, match="do not fit"):
        model.step(cache, 0)
    assert cache.length == 3


@pytest.mark.parametrize("capacity", [0, -1, 2**62])
def test_an_impossible_capacity_is_refused(build: Callable[..., Any], capacity: int) -> None:
    with pytest.raises(ValueError):
        build().model().new_cache(capacity)


@pytest.mark.parametrize("length", [-1, 4, 2**62])
def test_an_impossible_truncation_is_refused(build: Callable[..., Any], length: int) -> None:
    model = build().model()
    cache = model.new_cache(8)
    model.prefill(cache, np.zeros(3, np.int32))
    with pytest.raises(ValueError):
        cache.truncate(length)
    assert cache.length == 3


def test_the_cache_of_another_model_is_refused(build: Callable[..., Any]) -> None:
    small, large = build().model(), build(num_layers=3).model()
    with pytest.raises(ValueError, match="another model"):
        large.step(small.new_cache(8), 0)


@pytest.mark.parametrize("threads", [0, -1])
def test_a_step_needs_a_thread(build: Callable[..., Any], threads: int) -> None:
    model = build().model()
    with pytest.raises(ValueError):
        model.step(model.new_cache(8), 0, threads=threads)


@pytest.mark.parametrize("allowed", [[77], [-1], [5, 5], []])
def test_ids_that_cannot_be_allowed_leave_the_cache_as_it_was(build: Callable[..., Any], allowed: list[int]) -> None:
    model = build().model()
    cache = model.new_cache(8)
    with pytest.raises(ValueError):
        model.step(cache, 0, allowed=np.array(allowed, np.int32))
    assert cache.length == 0


@pytest.mark.parametrize("form", [FORM, {"kind": "dense"}], ids=lambda form: form["kind"])
def test_weights_that_are_not_numbers_are_found_at_the_logits(build: Callable[..., Any], form: dict[str, Any]) -> None:
    parts = build(form)
    parts.tensors["model.norm.weight"] = np.full(48, np.nan, np.float32)
    model = parts.model()
    cache = model.new_cache(8)
    for call in (lambda: model.step(cache, 1), lambda: model.prefill(cache, np.zeros(2, np.int32))):
        with pytest.raises(ValueError, match="not finite"):
            call()
    assert cache.length == 0


def test_a_tensor_that_is_no_array_is_named(build: Callable[..., Any]) -> None:
    parts = build()
    parts.tensors["model.norm.weight"] = "text"
    refused(parts, "model.norm.weight")


def test_codes_whose_sums_could_overflow_are_refused(build: Callable[..., Any]) -> None:
    refused(build({"kind": "int8"}, hidden_size=8, intermediate_size=(1 << 17) + 32, num_layers=1), "columns of codes")


def test_an_unknown_instruction_set_is_refused() -> None:
    with pytest.raises(ValueError, match=r"(avx2|neon) or scalar"):
        kernels.set_isa("mmx")
