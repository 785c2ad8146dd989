"""Builds tiny model directories with random weights, without torch: a plain Hugging Face folder and compressed artifacts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
from numpy.typing import NDArray
from safetensors.numpy import save_file
from tokenizers import decoders, models, pre_tokenizers

from leanto_edge.artifact import Artifact, write_artifact
from leanto_edge.artifact.architecture import ModelShape
from leanto_edge.artifact.layout import EMBEDDING, HEAD, MatrixSpec, expected_tensors, matrix_sizes, vector_sizes
from leanto_kernels import tables

CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_act": "silu",
    "hidden_size": 64,
    "intermediate_size": 172,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "vocab_size": 264,
    "max_position_embeddings": 64,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "tie_word_embeddings": True,
    "bos_token_id": 0,
    "eos_token_id": 1,
}


def tiny_shape(config: dict[str, Any] = CONFIG) -> ModelShape:
    return ModelShape.from_config(Path("tiny"), config)


def byte_tokenizer() -> bytes:
    """A tokenizer.json whose pieces are <s>, </s> and the 256 bytes."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = tokenizers.Tokenizer(models.BPE({piece: index for index, piece in enumerate(["<s>", "</s>", *alphabet])}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<s>", "</s>"])
    return tokenizer.to_str().encode()


def dense_weights(config: dict[str, Any] = CONFIG, seed: int = 0) -> dict[str, NDArray[np.float32]]:
    """Every tensor of a plain Hugging Face folder, float32, in sizes at which a random model is well-behaved."""
    random, shape = np.random.default_rng(seed), tiny_shape(config)
    weights = {
        f"{name}.weight": (random.standard_normal(size) * (1.0 if name == EMBEDDING else size[1] ** -0.5)).astype(np.float32)
        for name, size in matrix_sizes(shape).items()
    }
    return weights | {name: random.uniform(0.5, 1.5, size).astype(np.float32) for name, size in vector_sizes(shape).items()}


def write_plain(path: Path, config: dict[str, Any] = CONFIG, seed: int = 0) -> Path:
    """A plain Hugging Face Llama folder."""
    path.mkdir(parents=True)
    (path / "config.json").write_text(json.dumps(config))
    (path / "tokenizer.json").write_bytes(byte_tokenizer())
    save_file(dense_weights(config, seed), path / "model.safetensors", {"format": "pt"})
    return path


def random_matrices(kind: str = "trellis", bits: int = 2, rank: int = 0, config: dict[str, Any] = CONFIG) -> dict[str, MatrixSpec]:
    """Specs of every matrix, with seeds as the format demands."""
    matrices = {}
    for name, (rows, cols) in matrix_sizes(tiny_shape(config)).items():
        table = name in (EMBEDDING, HEAD)
        matrices[name] = MatrixSpec(kind, bits, rows, cols, 0 if table else rank, 7, 0 if table else 9)  # type: ignore[arg-type]
    return matrices


def random_tensors(matrices: dict[str, MatrixSpec], config: dict[str, Any] = CONFIG, seed: int = 0) -> dict[str, NDArray[Any]]:
    """Valid random tensors for those specs."""
    random = np.random.default_rng(seed)
    tensors: dict[str, NDArray[Any]] = {}
    for name, spec in expected_tensors(tiny_shape(config), matrices).items():
        module, _, part = name.rpartition(".")
        if part == "tables":
            tensors[name] = tables(matrices[module].bits, kind=matrices[module].kind)
        elif part == "factor_tables":
            tensors[name] = tables(4)
        elif spec.dtypes & {"U8", "I8"}:
            tensors[name] = random.integers(-127, 128, spec.shape).astype(np.uint8 if "U8" in spec.dtypes else np.int8)
        elif part == "weight":
            tensors[name] = random.uniform(0.5, 1.5, spec.shape).astype(np.float32)
        else:
            tensors[name] = random.uniform(0.001, 0.01, spec.shape).astype(np.float16)
    return tensors


def write_tiny(path: Path, kind: str = "trellis", bits: int = 2, rank: int = 0, **metadata: Any) -> Artifact:
    """A compressed artifact with random codes."""
    matrices = random_matrices(kind, bits, rank)
    return write_artifact(path, CONFIG, matrices, random_tensors(matrices), {"tokenizer.json": byte_tokenizer()}, metadata)
