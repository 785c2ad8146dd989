"""One tiny config of every architecture that the engine runs, chosen so that each of its peculiarities shows in the logits, and random
teachers of them in Hugging Face form. Needs torch and transformers."""

from __future__ import annotations

import copy
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from artifacts import byte_tokenizer
from leanto_edge.artifact import Artifact, write_artifact
from leanto_edge.artifact.architecture import ModelShape
from leanto_edge.artifact.layout import EMBEDDING, HEAD, MatrixSpec, matrix_sizes, shared_input_groups
from leanto_edge.compress.matrix import compress_matrix
from leanto_edge.compress.source import load_source

SIZES: dict[str, Any] = {
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 264,
    "max_position_embeddings": 256,
    "rms_norm_eps": 1e-5,
    "bos_token_id": 0,
    "eos_token_id": [1, 263],
    "pad_token_id": None,
}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 10_000.0,
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
LONGROPE = {
    "rope_type": "longrope",
    "rope_theta": 10_000.0,
    "partial_rotary_factor": 0.5,
    "short_factor": [1.0, 1.1, 1.3],
    "long_factor": [1.5, 3.0, 8.0],
}
GEMMA: dict[str, Any] = {"head_dim": 16, "sliding_window": 6, "query_pre_attn_scalar": 24, "tie_word_embeddings": True}

ARCHITECTURES: dict[str, dict[str, Any]] = {
    "llama": {"model_type": "llama"},
    "llama with biases": {"model_type": "llama", "attention_bias": True, "mlp_bias": True, "head_dim": 10, "tie_word_embeddings": True},
    "llama 3": {"model_type": "llama", "rope_parameters": LLAMA3},
    "llama, linear": {"model_type": "llama", "rope_parameters": {"rope_type": "linear", "rope_theta": 5000.0, "factor": 4.0}},
    "mistral": {"model_type": "mistral", "sliding_window": 7, "head_dim": 16},
    "qwen2": {"model_type": "qwen2", "bos_token_id": None, "tie_word_embeddings": True},
    "qwen2, windows": {"model_type": "qwen2", "use_sliding_window": True, "sliding_window": 9, "max_window_layers": 2},
    "qwen3": {"model_type": "qwen3", "head_dim": 20, "bos_token_id": None, "rope_parameters": {"rope_theta": 1e6, "rope_type": "default"}},
    "phi3": {"model_type": "phi3", "sliding_window": 30},
    "phi3, longrope, short": {"model_type": "phi3", "rope_parameters": LONGROPE, "original_max_position_embeddings": 128},
    "phi3, longrope, long": {"model_type": "phi3", "rope_parameters": LONGROPE, "original_max_position_embeddings": 16},
    "smollm3": {"model_type": "smollm3"},
    "gemma2": {"model_type": "gemma2", "attn_logit_softcapping": 1.5, "final_logit_softcapping": 2.0, **GEMMA},
    "gemma3": {
        "model_type": "gemma3_text",
        "layer_types": ["sliding_attention", "full_attention", "sliding_attention", "full_attention"],
        "rope_parameters": {
            "full_attention": {"rope_type": "linear", "rope_theta": 1e6, "factor": 8.0},
            "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
        },
        **GEMMA,
    },
}


def tiny_config(name: str) -> dict[str, Any]:
    """The config of ARCHITECTURES as a developer would write it."""
    return copy.deepcopy({**SIZES, **ARCHITECTURES[name]})  # transformers writes into what it is given


def random_model(config: dict[str, Any], seed: int = 0) -> Any:
    """A transformers model (float32, evaluation mode) with weights at which every part of it matters."""
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**config), dtype=torch.float32).eval()
    random, gemma = torch.Generator().manual_seed(seed), config["model_type"].startswith("gemma")
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=random)
            if parameter.ndim == 2:
                parameter.copy_(noise * (1.0 if "embed" in name and not gemma else parameter.shape[1] ** -0.5))
            elif name.endswith("bias"):
                parameter.copy_(noise)
            else:
                parameter.copy_(0.3 * noise + (0 if gemma else 1))
            parameter.requires_grad_(False)
    return model


def write_teacher(path: Path, config: dict[str, Any], seed: int = 0) -> Any:
    """Save such a model with a tokenizer to `path`, a plain Hugging Face folder."""
    model = random_model(config, seed)
    model.save_pretrained(path)
    (path / "tokenizer.json").write_bytes(byte_tokenizer())
    return model


def mixed_specs(shape: ModelShape) -> dict[str, MatrixSpec]:
    """int8 for what reads the hidden state first, trellis codes with rotations and a low rank for the rest."""
    found: dict[str, MatrixSpec] = {}
    sizes = matrix_sizes(shape)
    for seed, group in enumerate([(EMBEDDING,), *shared_input_groups(shape), *([] if shape.tie_embeddings else [(HEAD,)])], start=1):
        for name in group:
            table = name in (EMBEDDING, HEAD)
            kind, bits = ("int8", 8) if table or "qkv" in name or "v_proj" in name else ("trellis", 4)
            found[name] = MatrixSpec(kind, bits, *sizes[name], 0 if table else 2, seed, 0 if table else 100 + seed)  # type: ignore[arg-type]
    return found


def write_compressed(teacher: Path, out: Path, specs: dict[str, MatrixSpec] | None = None) -> Artifact:
    """Compress the folder of a teacher without calibration, as `specs` say, into an artifact at `out`."""
    source = load_source(teacher)
    specs = mixed_specs(source.shape) if specs is None else specs
    tensors: dict[str, Any] = {}
    with ThreadPoolExecutor(1) as executor:
        for name, spec in specs.items():
            weight = source.weight(name).numpy()
            if spec.kind == "dense":
                tensors[f"{name}.weight"] = weight
            else:
                made = compress_matrix(weight, np.eye(spec.cols), spec, sweeps=0, executor=executor)
                tensors |= {f"{name}.{part}": tensor for part, tensor in made.tensors.items()}
    return write_artifact(out, source.config, specs, tensors | source.vectors(), source.small_files(), {})
