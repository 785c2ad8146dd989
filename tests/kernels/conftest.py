"""Both instruction sets, and small random models of every kind of matrix."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import leanto_kernels as kernels

KINDS = ("trellis", "additive", "scalar")


def available() -> list[str]:
    before, found = kernels.isa(), []
    for name in ("avx512", "avx2", "neon_dotprod", "neon", "scalar"):
        try:
            kernels.set_isa(name)
        except ValueError:
            continue
        found.append(name)
    kernels.set_isa(before)
    return found


@pytest.fixture(scope="module", params=available())
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    before = kernels.isa()
    kernels.set_isa(request.param)
    yield request.param
    kernels.set_isa(before)


@pytest.fixture(scope="session")
def isas() -> list[str]:
    """Return the names of all instruction sets of this machine."""
    return available()


@dataclasses.dataclass
class Parts:
    config: dict[str, Any]
    matrices: dict[str, dict[str, Any]]
    tensors: dict[str, np.ndarray]

    def model(self) -> kernels.Model:
        return kernels.Model(self.config, self.matrices, self.tensors)


def make_matrix(parts: Parts, module: str, rows: int, cols: int, form: dict[str, Any], rng: np.random.Generator) -> None:
    rank, bits, kind = form.get("rank", 0), form.get("bits", 2), form["kind"]
    parts.matrices[module] = {"rows": rows, "cols": cols, "in_seed": 0, "out_seed": 0, "rank": 0, **form}
    padded_rows, padded_cols = -(-rows // 8) * 8, -(-cols // 32) * 32
    size = 1 / np.sqrt(cols)
    if kind == "dense":
        parts.tensors[f"{module}.weight"] = (rng.standard_normal((rows, cols)) * size).astype(np.float32)
    if kind == "int8":
        parts.tensors[f"{module}.codes"] = rng.integers(-127, 128, (rows, padded_cols), dtype=np.int8)
        parts.tensors[f"{module}.scales"] = (size / 73 * rng.uniform(0.5, 1.5, rows)).astype(np.float16)
    if kind in KINDS:
        parts.tensors[f"{module}.codes"] = rng.integers(0, 256, (padded_rows * bits // 8, padded_cols), dtype=np.uint8)
        parts.tensors[f"{module}.tables"] = kernels.tables(bits, kind=kind)
        parts.tensors[f"{module}.scales"] = (size * kernels.unit(bits, kind=kind) * rng.uniform(0.5, 1.5, rows)).astype(np.float32)
    if rank:
        make_factors(parts, module, rng)


def make_factors(parts: Parts, module: str, rng: np.random.Generator) -> None:
    form, tensors = parts.matrices[module], parts.tensors
    rank, factor_bits = form["rank"], form.get("factor_bits", 16)
    size = 1 / np.sqrt(form["cols"])
    if factor_bits == 16:
        tensors[f"{module}.left"] = (rng.standard_normal((form["rows"], rank)) * 0.3).astype(np.float16)
        tensors[f"{module}.right"] = (rng.standard_normal((rank, form["cols"])) * size).astype(np.float16)
        return
    if factor_bits == 4:
        tensors[f"{module}.factor_tables"] = kernels.tables(4)
    for side, length, scale in (("left", form["rows"], 0.3), ("right", form["cols"], size)):
        shape = (rank * factor_bits // 8, -(-length // 32) * 32)
        if factor_bits == 8:
            tensors[f"{module}.{side}"] = rng.integers(-127, 128, shape, dtype=np.int8)
        else:
            tensors[f"{module}.{side}"] = rng.integers(0, 256, shape, dtype=np.uint8)
        unit = 1 / 73 if factor_bits == 8 else kernels.unit(4)
        tensors[f"{module}.{side}_scales"] = (scale * unit * rng.uniform(0.5, 1.5, rank)).astype(np.float32)


def make_parts(form: dict[str, Any] | None = None, *, tied: bool = True, seed: int = 0, rotated: bool = False, **sizes: Any) -> Parts:
    """Return a random model whose matrices all have one form; `rotated` gives every side but the embedding's output a seed."""
    form = form or {"kind": "dense"}
    config: dict[str, Any] = {
        "hidden_size": 48, "intermediate_size": 80, "num_layers": 2, "num_heads": 6, "num_kv_heads": 2, "head_dim": 10,
        "vocab_size": 77, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "tie_embeddings": tied, **sizes,
    }  # fmt: skip
    parts, rng = Parts(config, {}, {}), np.random.default_rng(seed)
    hidden, inner, vocab = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    query, kv = config["num_heads"] * config["head_dim"], config["num_kv_heads"] * config["head_dim"]

    def add(module: str, rows: int, cols: int, in_seed: int, out_seed: int, bias: str = "") -> None:
        seeds = {"in_seed": in_seed, "out_seed": out_seed} if rotated else {}
        make_matrix(parts, module, rows, cols, {**form, **seeds}, rng)
        if config.get(bias):
            parts.tensors[f"{module}.bias"] = rng.standard_normal(rows).astype(np.float32)

    def add_norm(module: str, size: int = hidden) -> None:
        parts.tensors[f"{module}.weight"] = rng.uniform(0.5, 1.5, size).astype(np.float32)

    add("model.embed_tokens", vocab, hidden, 11, 0)
    for i in range(int(config["num_layers"])):
        layer = f"model.layers.{i}"
        if config.get("fused_projections"):
            add(f"{layer}.self_attn.qkv_proj", query + 2 * kv, hidden, 100 + i, 200, "qkv_bias")
            add(f"{layer}.mlp.gate_up_proj", 2 * inner, hidden, 400 + i, 500, "mlp_bias")
        else:
            for j, (name, rows) in enumerate((("q", query), ("k", kv), ("v", kv))):
                add(f"{layer}.self_attn.{name}_proj", rows, hidden, 100 + i, 200 + j, "qkv_bias")
            for j, name in enumerate(("gate", "up")):
                add(f"{layer}.mlp.{name}_proj", inner, hidden, 400 + i, 500 + j, "mlp_bias")
        add(f"{layer}.self_attn.o_proj", hidden, query, 300 + i, 2**62 + 5, "output_bias")
        add(f"{layer}.mlp.down_proj", hidden, inner, 600, 601, "mlp_bias")
        sandwich = ("pre_feedforward_layernorm", "post_feedforward_layernorm") if config.get("sandwich_norms") else ()
        for name in ("input_layernorm", "post_attention_layernorm", *sandwich):
            add_norm(f"{layer}.{name}")
        for name in ("q_norm", "k_norm") if config.get("head_norms") else ():
            add_norm(f"{layer}.self_attn.{name}", config["head_dim"])
    add_norm("model.norm")
    if not tied:
        add("lm_head", vocab, hidden, 12, 13)
    return parts


@pytest.fixture(scope="session")
def build() -> Callable[..., Parts]:
    """Return the factory of random models, make_parts."""
    return make_parts
