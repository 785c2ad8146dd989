"""Configs old and new, whole and broken, against what transformers takes them to mean."""

from __future__ import annotations

import copy
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("torch", reason="the oracle is transformers")
pytest.importorskip("transformers", reason="the oracle is transformers")

from architectures import SIZES, random_model
from leanto_edge import ArtifactError, UnsupportedModelError
from leanto_edge.artifact.architecture import FAMILIES, ModelShape


def read_by_transformers(config: dict[str, Any]) -> dict[str, Any]:
    """What a transformers model made from the config turns, sees and scales by, in the terms of ModelShape."""
    model = random_model(config)
    rotary, layers = model.model.rotary_emb, [layer.self_attn for layer in model.model.layers]
    kinds = ["full_attention", "sliding_attention"] if config["model_type"] == "gemma3_text" else []
    tables = [(getattr(rotary, f"{kind}_inv_freq"), getattr(rotary, f"{kind}_attention_scaling")) for kind in kinds]
    window = getattr(model.config, "sliding_window", None) if config["model_type"] in ("mistral", "phi3") else None
    return {
        "ropes": tables or [(rotary.inv_freq, rotary.attention_scaling)],
        "windows": [getattr(layer, "sliding_window", window) for layer in layers],
        "turned": [bool(getattr(layer, "use_rope", True)) for layer in layers],
        "head_dim": layers[0].head_dim,
        "attention_scale": layers[0].scaling,
        "tied": model.config.tie_word_embeddings,
        "softcaps": [getattr(model.config, f"{name}_logit_softcapping", None) or 0 for name in ("attn", "final")],
    }


GEMMA3_1B = {
    "model_type": "gemma3_text", "head_dim": 16, "hidden_activation": "gelu_pytorch_tanh", "query_pre_attn_scalar": 256,
    "rope_local_base_freq": 10000, "rope_theta": 1000000, "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
    "sliding_window": 512, "sliding_window_pattern": 3, "attn_logit_softcapping": None, "final_logit_softcapping": None,
}  # fmt: skip
LLAMA_31 = {
    "model_type": "llama", "rope_theta": 500000.0, "attention_bias": False,
    "rope_scaling": {
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192,
    },
}  # fmt: skip
PHI_128K = {
    "model_type": "phi3", "rope_theta": 10000.0, "original_max_position_embeddings": 64, "sliding_window": 512,
    "rope_scaling": {
        "type": "su", "original_max_position_embeddings": 64,
        "short_factor": [1.0, 1.1, 1.2, 1.3, 1.4, 1.5], "long_factor": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0],
    },
}  # fmt: skip
SPELLINGS: dict[str, dict[str, Any]] = {
    **{f"{kind} with nothing but sizes": {"model_type": kind} for kind in FAMILIES},
    "gemma 3 as first published": GEMMA3_1B,
    "llama 3.1 as first published": LLAMA_31,
    "phi 3 as first published": PHI_128K,
    "linear as first published": {"model_type": "mistral", "sliding_window": None, "rope_scaling": {"type": "linear", "factor": 2.0}},
    "smollm3 with windows": {
        "model_type": "smollm3", "use_sliding_window": True, "sliding_window": 11, "no_rope_layers": [0, 1, 1, 0, 1, 1, 0],
    },
    "smollm3 with an interval": {"model_type": "smollm3", "no_rope_layer_interval": 2},
    "qwen2 with a window that it does not use": {"model_type": "qwen2", "sliding_window": 11, "use_sliding_window": False},
}  # fmt: skip


@pytest.mark.parametrize("name", SPELLINGS)
def test_a_config_means_what_transformers_takes_it_to_mean(name: str) -> None:
    config = {**SIZES, "num_hidden_layers": 6, **SPELLINGS[name]}
    shape, theirs = ModelShape.from_config(Path("tiny"), config), read_by_transformers(copy.deepcopy(config))
    assert len(shape.ropes) == len(theirs["ropes"])
    for rope, (frequencies, scale) in zip(shape.ropes, theirs["ropes"], strict=True):
        np.testing.assert_allclose(rope.frequencies, frequencies.numpy(), rtol=1e-5)
        assert rope.scale == pytest.approx(scale)
    assert [layer.window for layer in shape.layers] == theirs["windows"]
    assert [layer.rope is not None for layer in shape.layers] == theirs["turned"]
    assert (shape.head_dim, shape.tie_embeddings) == (theirs["head_dim"], theirs["tied"])
    assert shape.attention_scale == pytest.approx(theirs["attention_scale"])
    assert [shape.attention_softcap, shape.logit_softcap] == theirs["softcaps"]


@pytest.mark.parametrize(
    ("change", "found", "supported"),
    [
        ({"model_type": "mixtral"}, "model_type is 'mixtral'", "mistral"),
        ({"model_type": "qwen3_moe"}, "model_type is 'qwen3_moe'", "qwen3"),
        ({"model_type": "gemma3", "text_config": {"model_type": "gemma3_text"}}, "'gemma3', a wrapper", "gemma3_text"),
        ({"model_type": None}, "model_type is None", "llama"),
        ({"hidden_act": "relu"}, "hidden_act is 'relu'", "silu"),
        ({"hidden_act": ["silu"]}, r"hidden_act is \['silu'\]", "silu"),
        ({"model_type": "gemma2", "hidden_activation": "gelu"}, "hidden_activation is 'gelu'", "gelu_pytorch_tanh"),
        ({"model_type": "gemma2", "use_bidirectional_attention": True}, "use_bidirectional_attention", "came before"),
        ({"model_type": "gemma3_text", "attn_logit_softcapping": 50.0}, "attn_logit_softcapping", "gemma2"),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}, "rope_type is 'yarn'", "llama3"),
        ({"rope_scaling": {"type": "dynamic", "factor": 4.0}}, "rope_type is 'dynamic'", "longrope"),
        ({"rope_scaling": "linear"}, "rope_type is 'linear'", "default"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor is 0.5", "phi3"),
        ({"rope_parameters": {"full_attention": {"rope_theta": 1e4}}}, "differ between layers", "gemma3_text"),
        ({"model_type": "qwen3", "layer_types": ["full_attention", "chunked_attention"] * 2}, "'chunked_attention'", "sliding_attention"),
    ],
)
def test_what_the_engine_does_not_run_is_named_with_what_it_runs(change: dict[str, Any], found: str, supported: str) -> None:
    with pytest.raises(UnsupportedModelError, match=f"{found}.*this engine.*{supported}") as caught:
        ModelShape.from_config(Path("tiny"), {**SIZES, "model_type": "llama", **change})
    assert "\n" not in str(caught.value)


KEYS = (
    "rope_parameters", "rope_scaling", "rope_theta", "partial_rotary_factor", "sliding_window", "layer_types", "no_rope_layers",
    "no_rope_layer_interval", "max_window_layers", "use_sliding_window", "sliding_window_pattern", "query_pre_attn_scalar", "head_dim",
    "attn_logit_softcapping", "final_logit_softcapping", "original_max_position_embeddings", "hidden_act", "eos_token_id", "rms_norm_eps",
    "attention_bias", "num_hidden_layers", "num_key_value_heads",
)  # fmt: skip
ROPE_KEYS = ("rope_type", "type", "rope_theta", "factor", "low_freq_factor", "high_freq_factor", "short_factor", "long_factor")
NUMBERS = st.integers() | st.floats() | st.integers(-2, 5)
ROPES = st.dictionaries(
    st.sampled_from(ROPE_KEYS), st.sampled_from(["default", "linear", "llama3", "longrope"]) | NUMBERS | st.lists(NUMBERS)
)
VALUES = st.none() | st.booleans() | NUMBERS | st.text(max_size=5) | st.lists(NUMBERS, max_size=4) | ROPES


@settings(max_examples=200)
@given(kind=st.sampled_from(sorted(FAMILIES)), change=st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=4))
def test_any_config_is_read_or_refused(kind: str, change: dict[str, Any]) -> None:
    with suppress(ArtifactError):
        shape = ModelShape.from_config(Path("tiny"), {**SIZES, "model_type": kind, **change})
        assert len(shape.layers) == shape.num_layers
        assert all(np.isfinite(value) for rope in shape.ropes for value in rope.frequencies)
