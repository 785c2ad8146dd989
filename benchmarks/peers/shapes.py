"""Random-weight Llama models of a given shape as GGUF (float16): the speed of an engine does not depend on the weights."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np

from benchmarks.decode import Shape


def write_gguf(shape: Shape, path: Path) -> None:
    """A Llama model without a tokenizer."""
    rng = np.random.default_rng(0)
    writer = gguf.GGUFWriter(path, "llama")
    width = shape.hidden // shape.heads
    writer.add_context_length(8192)
    writer.add_embedding_length(shape.hidden)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.ffn)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(width)
    writer.add_rope_freq_base(10_000.0)
    writer.add_vocab_size(shape.vocab)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    writer.add_tokenizer_model("no_vocab")

    def matrix(name: str, rows: int, cols: int) -> None:
        writer.add_tensor(f"{name}.weight", (rng.standard_normal((rows, cols), np.float32) / np.sqrt(cols)).astype(np.float16))

    def norm(name: str) -> None:
        writer.add_tensor(f"{name}.weight", np.ones(shape.hidden, np.float32))

    matrix("token_embd", shape.vocab, shape.hidden)
    for i in range(shape.layers):
        block = f"blk.{i}"
        norm(f"{block}.attn_norm")
        for name, heads in (("q", shape.heads), ("k", shape.kv_heads), ("v", shape.kv_heads)):
            matrix(f"{block}.attn_{name}", heads * width, shape.hidden)
        matrix(f"{block}.attn_output", shape.hidden, shape.heads * width)
        norm(f"{block}.ffn_norm")
        matrix(f"{block}.ffn_gate", shape.ffn, shape.hidden)
        matrix(f"{block}.ffn_up", shape.ffn, shape.hidden)
        matrix(f"{block}.ffn_down", shape.hidden, shape.ffn)
    norm("output_norm")
    if not shape.tied:
        matrix("output", shape.vocab, shape.hidden)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
