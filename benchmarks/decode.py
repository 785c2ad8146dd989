"""Decode speed: tokens/s of pocket and of a random-weight 110 M Llama shape at 2 and 4 bits, beside transformers in float32.

`python -m benchmarks.decode [--json] [--quick]`. Batch 1, greedy, context of 16 tokens at the start, medians over interleaved rounds.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

import leanto_edge
from benchmarks.measure import Row, interleaved, median, run_cli
from leanto_kernels import Model, tables, unit

PROMPT = np.arange(3, 19, dtype=np.int32)


@dataclass(frozen=True)
class Shape:
    """A Llama shape to measure."""

    name: str
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    ffn: int
    vocab: int
    tied: bool


M110 = Shape("110M", 768, 12, 12, 12, 2048, 32_000, False)


def kernel_config(shape: Shape) -> dict[str, int | float | bool]:
    """The shape in the names of leanto_kernels.Model."""
    return {
        "hidden_size": shape.hidden,
        "intermediate_size": shape.ffn,
        "num_layers": shape.layers,
        "num_heads": shape.heads,
        "num_kv_heads": shape.kv_heads,
        "head_dim": shape.hidden // shape.heads,
        "vocab_size": shape.vocab,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10_000.0,
        "tie_embeddings": shape.tied,
    }


def random_model(shape: Shape, bits: int) -> Model:
    """Random codes in the trellis format (head and embeddings too), with rotations on: the speed does not depend on the weights."""
    rng = np.random.default_rng(0)
    matrices: dict[str, dict[str, Any]] = {}
    tensors: dict[str, np.ndarray[Any, Any]] = {}

    def add(name: str, rows: int, cols: int, in_seed: int, out_seed: int) -> None:
        padded = (-(-rows // 8) * 8, -(-cols // 32) * 32)
        matrices[name] = {"kind": "trellis", "bits": bits, "rows": rows, "cols": cols, "rank": 0, "in_seed": in_seed, "out_seed": out_seed}
        tensors[f"{name}.codes"] = rng.integers(0, 256, (padded[0] * bits // 8, padded[1]), np.uint8)
        tensors[f"{name}.tables"] = tables(bits)
        tensors[f"{name}.scales"] = np.full(rows, unit(bits) / np.sqrt(cols), np.float32)

    width = shape.hidden // shape.heads
    for i in range(shape.layers):
        layer = f"model.layers.{i}"
        for name, heads in (("q", shape.heads), ("k", shape.kv_heads), ("v", shape.kv_heads)):
            add(f"{layer}.self_attn.{name}_proj", heads * width, shape.hidden, 1 + i, 101 + i)
        add(f"{layer}.self_attn.o_proj", shape.hidden, shape.heads * width, 201 + i, 301 + i)
        for name in ("gate", "up"):
            add(f"{layer}.mlp.{name}_proj", shape.ffn, shape.hidden, 401 + i, 501 + i)
        add(f"{layer}.mlp.down_proj", shape.hidden, shape.ffn, 601 + i, 701 + i)
        for norm in ("input_layernorm", "post_attention_layernorm"):
            tensors[f"{layer}.{norm}.weight"] = np.ones(shape.hidden, np.float32)
    tensors["model.norm.weight"] = np.ones(shape.hidden, np.float32)
    add("model.embed_tokens", shape.vocab, shape.hidden, 901, 0)
    if not shape.tied:
        add("lm_head", shape.vocab, shape.hidden, 902, 0)
    return Model(kernel_config(shape), matrices, tensors)


def leanto_rate(model: Model, threads: int, tokens: int) -> Callable[[], float]:
    """A contender: tokens/s of native decode steps."""

    def run() -> float:
        cache = model.new_cache(len(PROMPT) + tokens)
        token = int(np.argmax(model.prefill(cache, PROMPT, threads)))
        start = time.perf_counter()
        for _ in range(tokens):
            token = model.step(cache, token, 0.0, 1.0, 0, 0.0, None, threads)[0]
        return tokens / (time.perf_counter() - start)

    return run


def transformers_rate(model: LlamaForCausalLM, threads: int, tokens: int) -> Callable[[], float]:
    """A contender: tokens/s of transformers' forward with its cache, without generate()'s bookkeeping."""

    def run() -> float:
        torch.set_num_threads(threads)
        with torch.inference_mode():
            out = model(torch.tensor(PROMPT[None].astype(np.int64)), use_cache=True)
            start = time.perf_counter()
            for _ in range(tokens):
                out = model(out.logits[:, -1:].argmax(-1), past_key_values=out.past_key_values, use_cache=True)
            return tokens / (time.perf_counter() - start)

    return run


def transformers_model(shape: Shape) -> LlamaForCausalLM:
    """The same shape with random float32 weights."""
    config = LlamaConfig(
        vocab_size=shape.vocab,
        hidden_size=shape.hidden,
        intermediate_size=shape.ffn,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        tie_word_embeddings=shape.tied,
        max_position_embeddings=4096,
    )
    return LlamaForCausalLM(config).eval()


def pocket_shape() -> tuple[Shape, Model, float]:
    """The shipped pocket: its shape, its native model and its bits per weight."""
    engine = leanto_edge.load(leanto_edge.embedded())
    s = engine.shape
    shape = Shape("pocket", s.hidden_size, s.num_layers, s.num_heads, s.num_kv_heads, s.intermediate_size, s.vocab_size, s.tie_embeddings)
    return shape, engine.model, engine.info.bits_per_weight


def compare(shape: Shape, models: dict[str, Model], threads: int, tokens: int, rounds: int) -> list[Row]:
    """Rows for one shape and thread count."""
    contenders = {name: leanto_rate(model, threads, tokens) for name, model in models.items()}
    contenders["transformers float32"] = transformers_rate(transformers_model(shape), threads, tokens)
    figures = interleaved(contenders, rounds)
    base = median(figures["transformers float32"])
    return [
        {"model": shape.name, "engine": name, "threads": threads, "tokens/s": median(rates), "ratio": median(rates) / base}
        for name, rates in figures.items()
    ]


def measure(quick: bool) -> list[Row]:
    """All rows."""
    rounds = 3 if quick else 7
    pocket, native, bits = pocket_shape()
    big = {f"leanto {bits} bit": random_model(M110, bits) for bits in (2, 4)}
    rows: list[Row] = []
    for threads in (1, 2):
        rows += compare(pocket, {f"leanto {bits:.2f} bit": native}, threads, 64, rounds)
        rows += compare(M110, big, threads, 12, rounds)
    return rows


if __name__ == "__main__":
    run_cli("decode", measure)
