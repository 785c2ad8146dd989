"""Writes an artifact as a GGUF file for llama.cpp and its kin: every matrix made dense and stored as q8_0 or f16.

The way out of this house: what a model learnt is not tied to its kernels. The `gguf` library writes the file; here is what it says.
A model or tokenizer that llama.cpp would run differently is refused by name.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from leanto_edge.artifact import Artifact, read_artifact
from leanto_edge.artifact.architecture import ModelShape
from leanto_edge.artifact.layout import MatrixSpec, vector_sizes
from leanto_edge.artifact.manifest import CONFIG, TOKENIZER, TOKENIZER_CONFIG, read_json
from leanto_edge.artifact.rope import LOCAL_THETA, THETA, Rope
from leanto_edge.artifact.weight import dense_weight
from leanto_edge.errors import ArtifactError, DependencyError, UnsupportedModelError
from leanto_edge.export.gguf_tokenizer import GgufTokenizer, read_gguf_tokenizer
from leanto_edge.tokenizer import begins_with_bos

GgufType = Literal["q8_0", "f16"]
Floats = NDArray[np.float32]

ARCHITECTURES: Mapping[str, str] = {  # by model_type
    "llama": "llama",
    "mistral": "llama",
    "qwen2": "qwen2",
    "qwen3": "qwen3",
    "phi3": "phi3",
    "smollm3": "smollm3",
    "gemma2": "gemma2",
    "gemma3_text": "gemma3",
}
_INTERLEAVED = ("llama", "smollm3")  # architectures whose rope turns neighbours, not halves, of a head
_BIASED = ("llama", "qwen2", "smollm3")  # whose biases llama.cpp reads
_LARGEST_GEMMA = {"gemma2": 46, "gemma3": 62}  # layers of the one size whose attention llama.cpp scales by hidden / heads
_Q8_0_BLOCK = 32


@dataclass(frozen=True, slots=True)
class GgufExport:
    """What was written. `notes`: what a reader of the file does otherwise, a sentence each, and what to do."""

    path: Path
    stored_bytes: int
    notes: tuple[str, ...]


def export_gguf(artifact: str | Path, out: str | Path, type: GgufType = "q8_0") -> GgufExport:
    """Write the artifact (or plain Hugging Face folder) to the file `out`, which must not exist and appears whole.

    `type`: of the matrices; those whose rows are no multiple of 32 are f16 anyway, norms and biases f32. Where layers see only the
    latest tokens and llama.cpp has no such layers, the context is declared no longer than what they see.
    Raises ArtifactError, UnsupportedModelError, and DependencyError without the gguf library.
    """
    try:
        import gguf
    except ModuleNotFoundError:
        raise DependencyError("the GGUF export needs the gguf library: pip install 'leanto[gguf]'") from None
    out = Path(out)
    if out.exists():
        raise ArtifactError(out, "already exists; remove it or choose another place")
    model = read_artifact(artifact)
    architecture = _architecture(model)
    draft = out.with_name(f".{out.name}.{os.getpid()}")
    writer = gguf.GGUFWriter(draft, architecture, use_temp_file=True)
    try:
        _write_shape(writer, gguf, model, architecture, type)
        tokenizer = _write_tokenizer(writer, model)
        _write_tensors(writer, gguf, model, architecture, type)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        draft.rename(out)
    except OSError as error:
        raise ArtifactError(out, f"cannot be written ({error}); free some space or choose another place") from None
    finally:
        if writer.temp_file is not None:
            writer.temp_file.close()
        writer.close()
        draft.unlink(missing_ok=True)
    return GgufExport(out, out.stat().st_size, _notes(model, architecture, tokenizer))


def _notes(model: Artifact, architecture: str, tokenizer: GgufTokenizer) -> tuple[str, ...]:
    notes = []
    if tokenizer.model == "gpt2" and tokenizer.space_prefix:
        notes.append("the tokenizer puts a space in front of each text, llama.cpp does not: begin prompts with one")
    if tokenizer.normalizes:
        notes.append("the tokenizer composes accents with their letters (NFC), llama.cpp does not: give it text that is so already")
    windows = [layer.window for layer in model.shape.layers if layer.window is not None]
    if not architecture.startswith("gemma") and min([model.shape.context_length, *windows]) < model.shape.context_length:
        notes.append(f"the context is {min(windows)} tokens, what a layer sees at once, instead of {model.shape.context_length}")
    return tuple(notes)


def _architecture(model: Artifact) -> str:
    """The name of the architecture in GGUF. Raises UnsupportedModelError for a model that llama.cpp would run differently."""
    shape, file = model.shape, model.path / CONFIG
    name = ARCHITECTURES[shape.architecture]
    gemma = name.startswith("gemma")
    no_rope = [layer.rope is None for layer in shape.layers]
    every_fourth = [(index + 1) % 4 == 0 for index in range(shape.num_layers)]
    for bad, what in (
        (shape.activation != ("gelu" if gemma else "silu"), f"the activation {shape.activation}"),
        ((shape.qkv_bias or shape.output_bias or shape.mlp_bias) and name not in _BIASED, "biases"),
        ((shape.output_bias or shape.mlp_bias) and name == "qwen2", "biases of the output"),
        (gemma and not shape.tie_embeddings, "a head of its own"),
        (name == "smollm3" and no_rope != every_fourth, "layers without positions other than every fourth"),
        (gemma and _period(shape) is None, "layer_types without a period"),
        (name == "gemma2" and _period(shape) != 2, "layer_types that do not alternate"),
        (gemma and len({layer.window for layer in shape.layers} - {None}) > 1, "windows that differ"),
    ):
        if bad:
            raise UnsupportedModelError(file, f"{what} in {shape.architecture} cannot be said in GGUF")
    return name


def _period(shape: ModelShape) -> int | None:
    """p where just every p-th layer sees everything; None where there is no such p."""
    whole = [index + 1 for index, layer in enumerate(shape.layers) if layer.window is None]
    period = whole[0] if whole else shape.num_layers + 1
    return period if whole == list(range(period, shape.num_layers + 1, period)) else None


def _write_shape(writer: Any, gguf: Any, model: Artifact, architecture: str, type: GgufType) -> None:
    shape = model.shape
    writer.add_name(str(model.manifest["name"]))
    writer.add_vocab_size(shape.vocab_size)
    writer.add_block_count(shape.num_layers)
    writer.add_embedding_length(shape.hidden_size)
    writer.add_feed_forward_length(shape.intermediate_size)
    writer.add_head_count(shape.num_heads)
    writer.add_head_count_kv(shape.num_kv_heads)
    writer.add_key_length(shape.head_dim)
    writer.add_value_length(shape.head_dim)
    writer.add_layer_norm_rms_eps(shape.rms_norm_eps)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0 if type == "q8_0" else gguf.LlamaFileType.MOSTLY_F16)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    windows = [layer.window for layer in shape.layers if layer.window is not None]
    if architecture.startswith("gemma"):
        writer.add_context_length(shape.context_length)
        writer.add_sliding_window(windows[0] if windows else shape.context_length)
        if architecture == "gemma2":
            writer.add_attn_logit_softcapping(shape.attention_softcap)
        else:
            writer.add_sliding_window_pattern(_period(shape))
        if shape.logit_softcap:
            writer.add_final_logit_softcapping(shape.logit_softcap)
    else:
        writer.add_context_length(min([shape.context_length, *windows]))
    _write_ropes(writer, gguf, model, architecture)


def _write_ropes(writer: Any, gguf: Any, model: Artifact, architecture: str) -> None:
    shape, config = model.shape, model.config
    settings = {**(config.get("rope_parameters") or {}), **(config.get("rope_scaling") or {})}
    everywhere = settings.get("full_attention") or settings
    theta = float(everywhere.get("rope_theta", config.get("rope_theta", THETA.get(shape.architecture, 10_000.0))))
    rope = shape.ropes[0]
    writer.add_rope_dimension_count(2 * len(rope.frequencies))
    writer.add_rope_freq_base(theta)
    stretched = _stretches(rope.frequencies, theta)
    if rope.long_frequencies:
        writer.add_rope_scaling_orig_ctx_len(rope.original_length)
        writer.add_rope_scaling_attn_factors(rope.scale)
        writer.add_tensor("rope_factors_short.weight", stretched)
        writer.add_tensor("rope_factors_long.weight", _stretches(rope.long_frequencies, theta))
    elif np.ptp(stretched) <= 1e-6 * stretched[0]:
        if not math.isclose(stretched[0], 1.0, rel_tol=1e-6):
            writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
            writer.add_rope_scaling_factor(float(stretched[0]))
    elif architecture == "llama":
        writer.add_tensor("rope_freqs.weight", stretched)
    else:
        raise UnsupportedModelError(model.path / CONFIG, f"this rope_type in {shape.architecture} cannot be said in GGUF")
    if len(shape.ropes) > 1:
        _write_local_rope(writer, model, settings, shape.ropes[1])


def _write_local_rope(writer: Any, model: Artifact, settings: Mapping[str, Any], rope: Rope) -> None:
    """Of Gemma 3's layers with a window."""
    local = settings.get("sliding_attention") or {}
    theta = float(local.get("rope_theta", model.config.get("rope_local_base_freq", LOCAL_THETA)))
    if not np.allclose(_stretches(rope.frequencies, theta), 1):
        raise UnsupportedModelError(model.path / CONFIG, "a stretched rope of layers with a window cannot be said in GGUF")
    writer.add_rope_freq_base_swa(theta)


def _stretches(frequencies: tuple[float, ...], theta: float) -> Floats:
    """By how much each frequency is lower than that of a plain rope."""
    pairs = len(frequencies)
    plain = np.power(theta, -np.arange(pairs) / pairs)
    return np.asarray(plain / np.array(frequencies), np.float32)


def _write_tokenizer(writer: Any, model: Artifact) -> GgufTokenizer:
    file, shape = model.path / TOKENIZER, model.shape
    found = read_gguf_tokenizer(file, read_json(file), shape.vocab_size)
    settings = read_json(model.path / TOKENIZER_CONFIG) if model.has(TOKENIZER_CONFIG) else {}
    writer.add_tokenizer_model(found.model)
    writer.add_tokenizer_pre(found.pre)
    writer.add_token_list(list(found.tokens))
    writer.add_token_types(list(found.types))
    if found.scores:
        writer.add_token_scores(list(found.scores))
    if found.merges:
        writer.add_token_merges(list(found.merges))
    writer.add_add_space_prefix(found.space_prefix)
    writer.add_add_bos_token(shape.bos_id is not None and begins_with_bos(settings))
    if shape.bos_id is not None:
        writer.add_bos_token_id(shape.bos_id)
    for add, token_id in zip((writer.add_eos_token_id, writer.add_eot_token_id, writer.add_eom_token_id), _eos(model), strict=False):
        add(token_id)
    if isinstance(settings.get("chat_template"), str):
        writer.add_chat_template(settings["chat_template"])
    return found


def _eos(model: Artifact) -> list[int]:
    """The tokens that end a text, in the order of the config."""
    value = model.config.get("eos_token_id")
    return list(value) if isinstance(value, list) else [] if value is None else [value]


def _write_tensors(writer: Any, gguf: Any, model: Artifact, architecture: str, type: GgufType) -> None:
    """Matrices one after the other; the writer keeps them in a temporary file."""
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH[architecture.upper()], model.shape.num_layers)
    for module, entry in model.matrices.items():
        spec = MatrixSpec.from_json(entry)
        tensors = {name: model.tensors[f"{module}.{name}"] for name in (name.removeprefix("m.") for name in spec.tensors("m"))}
        weight = _turned(model.shape, architecture, module, dense_weight(spec, tensors))
        stored = _stored_type(gguf, weight, type)
        name = names.get_name(f"{module}.weight", try_suffixes=(".weight",))
        writer.add_tensor(name, gguf.quants.quantize(weight, stored), raw_dtype=stored)
    for vector in vector_sizes(model.shape):
        module = vector.rpartition(".")[0]
        value = model.tensors[vector].astype(np.float32)
        value = (
            _turned(model.shape, architecture, module, value) if vector.endswith(".bias") else value + np.float32(model.shape.norm_offset)
        )
        if vector.endswith("q_norm.weight"):
            value = value * np.float32(_query_scale(model.shape, architecture))
        writer.add_tensor(names.get_name(vector, try_suffixes=(".weight", ".bias")), value)


def _turned(shape: ModelShape, architecture: str, module: str, rows: Floats) -> Floats:
    """Rows of a query or key projection in the order, and of the size, that llama.cpp wants; those of others as they are."""
    kind = module.rpartition(".")[2]
    if kind == "q_proj" and not shape.head_norms:
        rows = rows * np.float32(_query_scale(shape, architecture))
    if kind not in ("q_proj", "k_proj") or architecture not in _INTERLEAVED:
        return rows
    halves = rows.reshape(-1, 2, shape.head_dim // 2, *rows.shape[1:])
    return np.ascontiguousarray(halves.swapaxes(1, 2).reshape(rows.shape))


def _query_scale(shape: ModelShape, architecture: str) -> float:
    """What a query must be multiplied by for llama.cpp's own scale of attention to give that of the model."""
    largest = shape.num_layers == _LARGEST_GEMMA.get(architecture)
    return shape.attention_scale * math.sqrt(shape.hidden_size // shape.num_heads if largest else shape.head_dim)


def _stored_type(gguf: Any, weight: Floats, type: GgufType) -> Any:
    types = gguf.GGMLQuantizationType
    if type == "q8_0" and weight.shape[1] % _Q8_0_BLOCK == 0:
        return types.Q8_0
    return types.F16 if np.abs(weight).max() < np.finfo(np.float16).max else types.F32
