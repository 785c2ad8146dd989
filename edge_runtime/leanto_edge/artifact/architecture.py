"""Reads a Hugging Face `config.json` into the shape of a model that the engine runs.

Knows the names and defaults of the supported architectures and refuses what the kernels do not do. Knows nothing of weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from leanto_edge.artifact.layer_shapes import LayerShape, read_layers
from leanto_edge.artifact.rope import Rope, read_ropes
from leanto_edge.errors import ArtifactError, UnsupportedModelError

Config = Mapping[str, Any]
Activation = Literal["silu", "gelu"]


@dataclass(frozen=True, slots=True)
class Family:
    """What a model_type implies: transformers' defaults for keys that a config may lack, and parts of a layer that no key names."""

    head_dim: int | None = None  # None: hidden_size / num_attention_heads
    tied: bool = False
    qkv_bias: bool = False
    biases: tuple[str, ...] = ()  # of the keys attention_bias and mlp_bias, those that it heeds
    fused_projections: bool = False
    head_norms: bool = False
    gemma: bool = False  # its norms, GELU, scaled embeddings and attention, and soft caps


FAMILIES: Mapping[str, Family] = {
    "llama": Family(biases=("attention_bias", "mlp_bias")),
    "mistral": Family(),
    "qwen2": Family(qkv_bias=True),
    "qwen3": Family(head_dim=128, biases=("attention_bias",), head_norms=True),
    "phi3": Family(fused_projections=True),
    "smollm3": Family(tied=True, biases=("attention_bias", "mlp_bias")),
    "gemma2": Family(head_dim=256, tied=True, biases=("attention_bias",), gemma=True),
    "gemma3_text": Family(head_dim=256, tied=True, biases=("attention_bias",), head_norms=True, gemma=True),
}
ACTIVATIONS: Mapping[str, Activation] = {"silu": "silu", "swish": "silu", "gelu_pytorch_tanh": "gelu"}


@dataclass(frozen=True, slots=True)
class ModelShape:
    """The numbers of a decoder. Sizes in elements; norm weights are stored less `norm_offset`; a softcap of 0 is none."""

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
    tie_embeddings: bool
    bos_id: int | None
    eos_ids: frozenset[int]
    ropes: tuple[Rope, ...]
    layers: tuple[LayerShape, ...]
    activation: Activation
    fused_projections: bool
    qkv_bias: bool
    output_bias: bool
    mlp_bias: bool
    head_norms: bool
    sandwich_norms: bool
    norm_offset: float
    attention_scale: float
    attention_softcap: float
    logit_softcap: float
    embedding_scale: float

    @classmethod
    def from_config(cls, path: Path, config: Config) -> ModelShape:
        """Raise UnsupportedModelError for another architecture, ArtifactError for missing or senseless numbers."""
        file = path / "config.json"
        _refuse_unsupported(file, config)
        try:
            shape = _read(file, config)
        except (KeyError, TypeError, ValueError, ArithmeticError) as error:
            raise ArtifactError(file, f"is not a usable model config ({error!r:.200}); fetch the artifact again") from None
        shape._check(file)
        return shape

    def kernel_config(self) -> dict[str, Any]:
        """What leanto_kernels.Model wants to know."""
        elsewhere = ("architecture", "context_length", "bos_id", "eos_ids", "ropes", "layers")
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name not in elsewhere} | {
            "ropes": [rope.kernel_config() for rope in self.ropes],
            "layer_ropes": [-1 if layer.rope is None else layer.rope for layer in self.layers],
            "layer_windows": [layer.window or 0 for layer in self.layers],
        }

    def _check(self, file: Path) -> None:
        sizes = (self.hidden_size, self.num_heads, self.num_kv_heads, self.head_dim, self.vocab_size, self.context_length)
        fused = ((self.num_heads + 2 * self.num_kv_heads) * self.head_dim, 2 * self.intermediate_size)  # rows of the widest matrices
        if min(*sizes, *fused) < 1 or max(*sizes, *fused) >= 1 << 24:
            raise ArtifactError(file, "a size is out of range; fetch the artifact again")
        if self.bos_id is not None and not 0 <= self.bos_id < self.vocab_size:
            raise ArtifactError(file, "bos_token_id is outside the vocabulary; fetch the artifact again")
        if self.num_heads % self.num_kv_heads or self.head_dim % 2:
            raise ArtifactError(file, "the attention heads do not divide evenly; fetch the artifact again")


def _refuse_unsupported(file: Path, config: Config) -> None:
    kind = config.get("model_type")
    if not isinstance(kind, str) or kind not in FAMILIES:
        wrapper = ", a wrapper of the model in its text_config" if isinstance(config.get("text_config"), dict) else ""
        raise UnsupportedModelError(file, f"model_type is {kind!r:.40}{wrapper}; this engine runs {', '.join(FAMILIES)}")
    activation = config.get(*_activation_key(kind))
    if not isinstance(activation, str) or activation not in ACTIVATIONS:
        raise UnsupportedModelError(file, f"{_activation_key(kind)[0]} is {activation!r:.40}; this engine runs {', '.join(ACTIVATIONS)}")
    if config.get("use_bidirectional_attention"):
        raise UnsupportedModelError(file, "use_bidirectional_attention is on; this engine runs decoders that see what came before")
    if kind == "gemma3_text" and config.get("attn_logit_softcapping"):  # which transformers passes over
        raise UnsupportedModelError(file, "attn_logit_softcapping is set; this engine runs it in gemma2 only")


def _activation_key(kind: str) -> tuple[str, str]:
    """The config's key and its default."""
    return ("hidden_activation", "gelu_pytorch_tanh") if FAMILIES[kind].gemma else ("hidden_act", "silu")


def _read(file: Path, config: Config) -> ModelShape:
    """Everything that the config says, with the defaults of its family."""
    kind = str(config["model_type"])
    family = FAMILIES[kind]
    hidden, heads = int(config["hidden_size"]), int(config["num_attention_heads"])
    head_dim = int(config.get("head_dim") or family.head_dim or hidden // heads)
    attention_bias, mlp_bias = (key in family.biases and bool(config.get(key)) for key in ("attention_bias", "mlp_bias"))
    gemma2 = kind == "gemma2"
    return ModelShape(
        architecture=kind,
        hidden_size=hidden,
        intermediate_size=int(config["intermediate_size"]),
        num_layers=int(config["num_hidden_layers"]),
        num_heads=heads,
        num_kv_heads=int(config.get("num_key_value_heads") or heads),
        head_dim=head_dim,
        vocab_size=int(config["vocab_size"]),
        context_length=int(config["max_position_embeddings"]),
        rms_norm_eps=float(config["rms_norm_eps"]),
        tie_embeddings=bool(config.get("tie_word_embeddings", family.tied)),
        bos_id=None if config.get("bos_token_id") is None else int(config["bos_token_id"]),
        eos_ids=_ids(config.get("eos_token_id")),
        ropes=read_ropes(file, config, head_dim),
        layers=read_layers(file, config),
        activation=ACTIVATIONS[config.get(*_activation_key(kind))],
        fused_projections=family.fused_projections,
        qkv_bias=family.qkv_bias or attention_bias,
        output_bias=attention_bias,
        mlp_bias=mlp_bias,
        head_norms=family.head_norms,
        sandwich_norms=family.gemma,
        norm_offset=1.0 if family.gemma else 0.0,
        attention_scale=float(config.get("query_pre_attn_scalar", 256) if family.gemma else head_dim) ** -0.5,
        attention_softcap=float(config.get("attn_logit_softcapping", 50.0) or 0) if gemma2 else 0.0,
        logit_softcap=float(config.get("final_logit_softcapping", 30.0 if gemma2 else 0) or 0) if family.gemma else 0.0,
        embedding_scale=hidden**0.5 if family.gemma else 1.0,
    )


def _ids(value: Any) -> frozenset[int]:
    if value is None:
        return frozenset()
    return frozenset(int(item) for item in (value if isinstance(value, list) else [value]))
