"""A Llama model as a GGUF file without a tokenizer, so that the size of the file is that of the weights. Needs the gguf package.

Knows the names and the header of llama.cpp's format, and nothing of where the weights come from.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import gguf
import numpy as np
from numpy.typing import NDArray

from leanto_edge.artifact.architecture import ModelShape
from leanto_edge.artifact.layout import EMBEDDING, HEAD

_NAMES = {
    EMBEDDING: "token_embd",
    HEAD: "output",
    "model.norm": "output_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}


def tensor_name(module: str) -> str:
    """What llama.cpp calls the weight of a Hugging Face module."""
    if not module.startswith("model.layers."):
        return f"{_NAMES[module]}.weight"
    _, _, layer, rest = module.split(".", 3)
    return f"blk.{layer}.{_NAMES[rest]}.weight"


def write(
    path: Path, shape: ModelShape, weights: Iterable[tuple[str, NDArray[np.floating]]], *, rms_norm_eps: float, kind: gguf.LlamaFileType
) -> None:
    """The file at `path`, of (module, weight) in any order; `kind` says in which type they are. The rope is as good as unset."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(shape.context_length)
    writer.add_embedding_length(shape.hidden_size)
    writer.add_block_count(shape.num_layers)
    writer.add_feed_forward_length(shape.intermediate_size)
    writer.add_head_count(shape.num_heads)
    writer.add_head_count_kv(shape.num_kv_heads)
    writer.add_layer_norm_rms_eps(rms_norm_eps)
    writer.add_rope_dimension_count(shape.head_dim)
    writer.add_rope_freq_base(10_000.0)  # speed, size and weights do not depend on it
    writer.add_vocab_size(shape.vocab_size)
    writer.add_file_type(kind)
    writer.add_tokenizer_model("no_vocab")
    for module, weight in weights:
        writer.add_tensor(tensor_name(module), weight)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
