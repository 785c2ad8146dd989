"""Reads a Hugging Face `config.json` into the shape of a model that the engine runs.

Knows the names and defaults of the Llama architecture and refuses what the kernels do not do. Knows nothing of weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from leanto_edge.errors import ArtifactError, UnsupportedModelError

MOST_LAYERS = 1024


@dataclass(frozen=True, slots=True)
class ModelShape:
    """The numbers of a Llama decoder. Sizes in elements, `rope_theta` in the units of RoFormer's base."""

    architecture: str
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    vocab_size: int
    context_length: int
    rms_norm_eps: float
    rope_theta: float
    tie_embeddings: bool
    bos_id: int | None
    eos_ids: frozenset[int]

    @classmethod
    def from_config(cls, path: Path, config: Mapping[str, Any]) -> ModelShape:
        """Raise UnsupportedModelError for another architecture, ArtifactError for missing or senseless numbers."""
        _refuse_unsupported(path, config)
        rope = _rope(config)
        try:
            heads = int(config["num_attention_heads"])
            shape = cls(
                architecture=str(config["model_type"]),
                hidden_size=int(config["hidden_size"]),
                intermediate_size=int(config["intermediate_size"]),
                num_layers=int(config["num_hidden_layers"]),
                num_heads=heads,
                num_kv_heads=int(config.get("num_key_value_heads") or heads),
                head_dim=int(config.get("head_dim") or int(config["hidden_size"]) // heads),
                vocab_size=int(config["vocab_size"]),
                context_length=int(config["max_position_embeddings"]),
                rms_norm_eps=float(config["rms_norm_eps"]),
                rope_theta=float(rope.get("rope_theta", config.get("rope_theta", 10_000.0))),
                tie_embeddings=bool(config.get("tie_word_embeddings", False)),
                bos_id=None if config.get("bos_token_id") is None else int(config["bos_token_id"]),
                eos_ids=_ids(config.get("eos_token_id")),
            )
        except (KeyError, TypeError, ValueError, ArithmeticError) as error:
            raise ArtifactError(path / "config.json", f"is not a usable model config ({error!r:.200}); fetch the artifact again") from None
        shape._check(path)
        return shape

    def kernel_config(self) -> dict[str, int | float | bool]:
        """What leanto_kernels.Model wants to know."""
        return {
            "hidden_size": self.hidden_size,
            "intermediate_size": self.intermediate_size,
            "num_layers": self.num_layers,
            "num_heads": self.num_heads,
            "num_kv_heads": self.num_kv_heads,
            "head_dim": self.head_dim,
            "vocab_size": self.vocab_size,
            "rms_norm_eps": self.rms_norm_eps,
            "rope_theta": self.rope_theta,
            "tie_embeddings": self.tie_embeddings,
        }

    def _check(self, path: Path) -> None:
        sizes = (self.hidden_size, self.intermediate_size, self.num_layers, self.num_heads, self.num_kv_heads, self.head_dim)
        if min(*sizes, self.vocab_size, self.context_length) < 1 or max(*sizes, self.vocab_size, self.context_length) > 1 << 24:
            raise ArtifactError(path / "config.json", "a size is out of range; fetch the artifact again")
        if self.num_layers > MOST_LAYERS:  # every layer costs memory before a weight is read
            raise ArtifactError(path / "config.json", f"asks for over {MOST_LAYERS} layers; fetch the artifact again")
        if self.bos_id is not None and not 0 <= self.bos_id < self.vocab_size:
            raise ArtifactError(path / "config.json", "bos_token_id is outside the vocabulary; fetch the artifact again")
        if self.num_heads % self.num_kv_heads or self.head_dim % 2:
            raise ArtifactError(path / "config.json", "the attention heads do not divide evenly; fetch the artifact again")


def _refuse_unsupported(path: Path, config: Mapping[str, Any]) -> None:
    rope = _rope(config)
    wanted = {
        "model_type": (config.get("model_type"), "llama"),
        "hidden_act": (config.get("hidden_act", "silu"), "silu"),
        "rope_type": (rope.get("rope_type", rope.get("type", "default")), "default"),
        "attention_bias": (bool(config.get("attention_bias", False)), False),
        "mlp_bias": (bool(config.get("mlp_bias", False)), False),
    }
    for key, (value, supported) in wanted.items():
        if value != supported:
            raise UnsupportedModelError(path / "config.json", f"{key} is {value!r:.40}; this engine runs {supported!r}")


def _rope(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Where configs of any age keep the position embedding's settings; {} is the default, what is no object has no known type."""
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    return rope if isinstance(rope, dict) else {"rope_type": rope}


def _ids(value: Any) -> frozenset[int]:
    if value is None:
        return frozenset()
    return frozenset(int(item) for item in (value if isinstance(value, list) else [value]))
