"""The kernels' oracle in NumPy: what each must compute, written to be read, not to be fast.

Integer kernels equal it bit for bit. Float kernels stay within the bound named beside each function, relative to the largest value of
the result (absolute for probabilities and evidence).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

BLOCK_ROWS = 256
GROUP_ROWS = 8
COLUMN_LANES = 32
FACTOR_BITS = 4  # of trellis-coded low-rank factors

DENSE_BOUND = 1e-5
LOW_RANK_BOUND = 2e-5  # L·R of rounded factors: the sums of R are exact, those of L float32
ROTATE_BOUND = 2e-6
RMS_NORM_BOUND = 2e-6
ROPE_BOUND = 2e-6
ATTENTION_BOUND = 5e-6
GATED_MLP_BOUND = 2e-6
SOFTCAP_BOUND = 5e-7  # relative to the cap
EVIDENCE_BOUND = 2e-5  # nats
MODEL_BOUND = 2e-4  # logits of a whole model of dense matrices, relative to the largest logit

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]


def window_bits(bits: int, kind: str) -> int:
    """How many bits of its column's string a weight looks at."""
    return {"trellis": 12, "additive": 8, "scalar": bits}[kind]


def window_values(window: npt.NDArray[np.int64], tables: npt.NDArray[np.int8], kind: str) -> npt.NDArray[np.int8]:
    """What windows stand for; scalar windows are short, and B is zero there."""
    a, b = tables
    w0, w4, w8 = window & 15, window >> 4 & 15, window >> 8
    return np.asarray(a[w0 ^ w8] + b[w4 ^ (w8 << 1 & 15)] if kind == "trellis" else a[w0] + b[w4], np.int8)


def decode_trellis(
    codes: npt.NDArray[np.uint8], tables: npt.NDArray[np.int8], bits: int, rows: int, kind: str = "trellis"
) -> npt.NDArray[np.int8]:
    """Values (rows, n_pad) int8 of codes (m_pad·bits/8, n_pad): row t of a block reads a window from bits·t on, around its end."""
    stream = np.unpackbits(codes, axis=0, bitorder="little").astype(np.int64)
    values = np.empty((len(stream) // bits, codes.shape[1]), np.int8)
    reach = np.arange(window_bits(bits, kind))
    for start in range(0, len(values), BLOCK_ROWS):
        block = stream[start * bits : (start + BLOCK_ROWS) * bits]
        at = (bits * np.arange(len(block) // bits)[:, None] + reach) % len(block)
        window = np.tensordot(block[at], 1 << reach, axes=(1, 0))
        values[start : start + len(window)] = window_values(window, tables, kind)
    return values[:rows]


def gemv_int8(codes: npt.NDArray[np.int8], x: npt.NDArray[np.int8]) -> npt.NDArray[np.int32]:
    """Exact products of codes (m, n) with x (n,) or (tokens, n)."""
    return (x.astype(np.int64) @ codes.astype(np.int64).T).astype(np.int32)


def gemv_trellis(
    codes: npt.NDArray[np.uint8], tables: npt.NDArray[np.int8], x: npt.NDArray[np.int8], bits: int, rows: int, kind: str = "trellis"
) -> npt.NDArray[np.int32]:
    """Exact products of a coded matrix with x (n_pad,) or (tokens, n_pad)."""
    return gemv_int8(decode_trellis(codes, tables, bits, rows, kind), x)


def gemv_transposed(weight: npt.NDArray[np.int8], x: Floats, rows: int) -> Floats:
    """Products of the first `rows` columns of weight (k, m_pad), transposed, with x (k,) or (tokens, k); DENSE_BOUND."""
    return (x.astype(np.float64) @ weight[:, :rows]).astype(np.float32)


def gemv_dense(weight: npt.NDArray[np.floating], x: Floats) -> Floats:
    """Products of weight (m, n) with x (n,) or (tokens, n); DENSE_BOUND."""
    return (x.astype(np.float64) @ weight.astype(np.float64).T).astype(np.float32)


def quantize_activations(x: Floats) -> tuple[npt.NDArray[np.int8], float]:
    """Codes in -127..127, rounded half to even, and their scale; exact."""
    largest = np.abs(x).max(initial=np.float32(0))
    if not np.isfinite(largest):
        return np.zeros(x.shape, np.int8), float("nan")
    if largest < np.float32(1e-30):
        return np.zeros(x.shape, np.int8), 0.0
    return np.rint(x * (np.float32(127) / largest)).astype(np.int8), float(largest / np.float32(127))


def signs(dimension: int, seed: int) -> Doubles:
    """±1 for each index, from splitmix64."""
    mask = (1 << 64) - 1
    out = np.empty(dimension)
    for i in range(dimension):
        z = (seed + (i + 1) * 0x9E3779B97F4A7C15) & mask
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
        out[i] = -1 if (z ^ (z >> 31)) >> 63 else 1
    return out


def rotation(dimension: int, seed: int) -> Doubles:
    """Return the orthogonal matrix R = (C ⊗ H) diag(signs); seed 0 is the identity."""
    if seed == 0:
        return np.eye(dimension)
    power = dimension & -dimension
    odd = dimension // power
    hadamard = np.ones((1, 1))
    while len(hadamard) < power:
        hadamard = np.block([[hadamard, hadamard], [hadamard, -hadamard]])
    k, j = np.arange(odd)[:, None], np.arange(odd)[None, :]
    cosine = np.sqrt(np.where(k == 0, 1, 2) / odd) * np.cos(np.pi * (j + 0.5) * k / odd)
    return np.kron(cosine, hadamard / np.sqrt(power)) * signs(dimension, seed)


def rotate(x: Floats, seed: int) -> Floats:
    """R x along the last axis; ROTATE_BOUND relative to the norm of x."""
    return (x @ rotation(x.shape[-1], seed).T).astype(np.float32)


def rotate_transpose(x: Floats, seed: int) -> Floats:
    """Rᵀ x along the last axis; ROTATE_BOUND relative to the norm of x."""
    return (x @ rotation(x.shape[-1], seed)).astype(np.float32)


def rms_norm(x: Floats, weight: Floats, epsilon: float) -> Floats:
    """x / sqrt(mean(x²) + epsilon) · weight; RMS_NORM_BOUND."""
    mean = np.mean(np.square(x.astype(np.float64)), axis=-1, keepdims=True)
    return np.asarray(x / np.sqrt(mean + epsilon) * weight, np.float32)


def rope(x: Floats, position: int, theta: float) -> Floats:
    """Rotary position embedding of x (tokens, heads, head_dim) in Hugging Face's rotate_half convention; ROPE_BOUND."""
    return turn(x, position, plain_frequencies(x.shape[2], theta))


def plain_frequencies(dimension: int, theta: float) -> Floats:
    """RoFormer's table (dimension / 2,), in radians for each position."""
    return (1.0 / theta ** (np.arange(0, dimension, 2) / dimension)).astype(np.float32)


def turn(x: Floats, position: int, frequencies: Floats, scale: float = 1.0) -> Floats:
    """Turn the first 2 · len(frequencies) elements of each head of x (tokens, heads, head_dim) by position; the rest stays.

    Angles are float32 products, as in Hugging Face's: at position p they are off by up to p · 2⁻²⁴ radians, kernel and oracle alike.
    """
    angle = (np.arange(position, position + len(x), dtype=np.float32)[:, None] * frequencies)[:, None, :].astype(np.float64)
    cosine, sine = scale * np.cos(angle), scale * np.sin(angle)
    a, b, rest = np.split(x.astype(np.float64), [len(frequencies), 2 * len(frequencies)], axis=-1)
    return np.concatenate([a * cosine - b * sine, b * cosine + a * sine, rest], -1).astype(np.float32)


def stored(x: Floats, storage: str) -> Floats:
    """Vectors (..., d) as a cache keeps them: float32, float16, or int8 with a scale for each."""
    if storage == "int8":
        codes, scales = zip(*map(quantize_activations, x.reshape(-1, x.shape[-1])), strict=True)
        return np.asarray(np.asarray(codes, np.float32) * np.asarray(scales, np.float32)[:, None], np.float32).reshape(x.shape)
    return x.astype(storage).astype(np.float32)


def attention(
    query: Floats,
    key: Floats,
    value: Floats,
    scale: float | None = None,
    softcap: float = 0.0,
    window: int = 0,
    storage: str = "float32",
) -> Floats:
    """Causal grouped-query attention: query (n, heads, d), key and value (t, kv_heads, d), queries last in time; ATTENTION_BOUND.

    `scale` of the scores (None: 1/√d), their `softcap` (0: none), and the `window` of the latest keys that a query sees (0: all);
    keys and values in the form of `storage`.
    """
    key, value = stored(key, storage), stored(value, storage)
    n, heads, dimension = query.shape
    group = heads // key.shape[1]
    scores = np.einsum("nhd,thd->hnt", query.astype(np.float64), np.repeat(key, group, 1)) * (dimension**-0.5 if scale is None else scale)
    scores = softcap * np.tanh(scores / softcap) if softcap else scores
    distance = np.arange(len(key) - n, len(key))[:, None] - np.arange(len(key))[None, :]
    hidden = (distance < 0) | (distance >= (window or len(key)))
    weights = np.exp(np.where(hidden, -np.inf, scores) - scores.max(-1, keepdims=True, where=~hidden, initial=-np.inf))
    return np.asarray(np.einsum("hnt,thd->nhd", weights / weights.sum(-1, keepdims=True), np.repeat(value, group, 1)), np.float32)


def gated_mlp(gate: Floats, up: Floats, activation: str = "silu") -> Floats:
    """silu(gate) · up, or gelu(gate) · up by its tanh approximation; GATED_MLP_BOUND relative to |gate · up|."""
    g = gate.astype(np.float64)
    if activation == "gelu":
        return np.asarray(0.5 * g * (1 + np.tanh(np.sqrt(2 / np.pi) * (g + 0.044715 * g**3))) * up, np.float32)
    return np.asarray(g / (1 + np.exp(-g)) * up, np.float32)


def softcap(x: Floats, cap: float) -> Floats:
    """cap · tanh(x / cap); SOFTCAP_BOUND."""
    return np.asarray(cap * np.tanh(x.astype(np.float64) / cap), np.float32)


def sample(
    logits: Floats,
    temperature: float = 0.0,
    top_p: float = 1.0,
    top_k: int = 0,
    u: float = 0.0,
    allowed: npt.NDArray[np.int32] | None = None,
    top: int = 0,
) -> tuple[int, float, float, float, list[tuple[int, float]]]:
    """(token, logprob, margin, entropy, top); the evidence within EVIDENCE_BOUND nats."""
    ids = np.arange(len(logits)) if allowed is None else allowed
    order = ids[np.argsort(-logits[ids], kind="stable")]
    token = int(order[0])
    if temperature > 0:
        order = order[:top_k] if top_k else order
        mass = np.exp((logits[order].astype(np.float64) - logits[order[0]]) / temperature)
        if top_p < 1:
            mass = mass[: int(np.argmax(np.cumsum(mass) >= top_p * mass.sum())) + 1]
        token = int(order[np.argmax(np.cumsum(mass) > u * mass.sum())])
    log_p = logits.astype(np.float64) - logits.max()
    log_p -= np.log(np.exp(log_p).sum())
    others = np.delete(log_p, token)
    likeliest = [(int(i), float(log_p[i])) for i in np.argsort(-logits, kind="stable")[:top]]
    return token, float(log_p[token]), float(log_p[token] - others.max()), float(-(np.exp(log_p) * log_p).sum()), likeliest


Form = Mapping[str, int | str]
Tensors = Mapping[str, npt.NDArray[np.generic]]


def part(tensors: Tensors, name: str) -> Floats:
    """One tensor in float32."""
    return np.asarray(tensors[name], np.float32)


def integers(form: Form, tensors: Tensors, module: str) -> npt.NDArray[np.int8]:
    """Values (rows, n_pad) of an int8 or coded matrix before its row scales."""
    codes = tensors[f"{module}.codes"]
    if form["kind"] == "int8":
        return np.asarray(codes, np.int8)
    tables = np.asarray(tensors[f"{module}.tables"], np.int8)
    return decode_trellis(np.asarray(codes, np.uint8), tables, int(form["bits"]), int(form["rows"]), str(form["kind"]))


def factor(form: Form, tensors: Tensors, module: str, side: str) -> npt.NDArray[np.int8]:
    """Integers of a rounded factor, (rank, its side's padded length)."""
    codes = tensors[f"{module}.{side}"]
    if form["factor_bits"] == 8:
        return np.asarray(codes, np.int8)
    tables = np.asarray(tensors[f"{module}.factor_tables"], np.int8)
    return decode_trellis(np.asarray(codes, np.uint8), tables, FACTOR_BITS, int(form["rank"]))


def low_rank(form: Form, tensors: Tensors, module: str) -> tuple[Floats, Floats]:
    """L (rows, rank) and R (rank, cols) in float32."""
    if form.get("factor_bits", 16) == 16:
        return part(tensors, f"{module}.left"), part(tensors, f"{module}.right")
    left, right = (factor(form, tensors, module, side) * part(tensors, f"{module}.{side}_scales")[:, None] for side in ("left", "right"))
    return left[:, : int(form["rows"])].T, right[:, : int(form["cols"])]


def product(form: Form, tensors: Tensors, module: str, x: Floats) -> Floats:
    """One matrix of a model times x (tokens, cols): rotate, multiply, add L·R, rotate back."""
    inside = rotate(x, int(form.get("in_seed", 0)))
    codes = np.zeros((len(x), -(-x.shape[1] // COLUMN_LANES) * COLUMN_LANES), np.int8)
    scales = np.empty((len(x), 1), np.float32)
    for t, row in enumerate(inside):
        codes[t, : len(row)], scales[t] = quantize_activations(row)
    if form["kind"] == "dense":
        y = gemv_dense(part(tensors, f"{module}.weight"), inside)
    else:
        y = gemv_int8(integers(form, tensors, module), codes).astype(np.float32) * (scales * part(tensors, f"{module}.scales"))
    if form.get("rank"):
        left, right = low_rank(form, tensors, module)
        reduced = inside @ right.T
        if form.get("factor_bits", 16) != 16:
            reduced = gemv_int8(factor(form, tensors, module, "right"), codes) * (scales * part(tensors, f"{module}.right_scales"))
        y = y + np.asarray(reduced @ left.T, np.float32)
    return rotate_transpose(y, int(form.get("out_seed", 0)))


def embedding(form: Form, tensors: Tensors, ids: npt.NDArray[np.int32]) -> Floats:
    """Rows of the embedding matrix, (tokens, cols)."""
    module = "model.embed_tokens"
    if form["kind"] == "dense":
        table = part(tensors, f"{module}.weight")
    else:
        values = integers(form, tensors, module)[:, : int(form["cols"])]
        table = values.astype(np.float32) * part(tensors, f"{module}.scales")[:, None]
    if form.get("rank"):
        left, right = low_rank(form, tensors, module)
        table = table + left @ right
    return rotate_transpose(table[ids], int(form.get("in_seed", 0)))


def model_logits(config: Mapping[str, Any], matrices: Mapping[str, Form], tensors: Tensors, ids: npt.NDArray[np.int32]) -> Floats:
    """Logits (tokens, vocab_size) of a whole model without a cache."""
    count, narrow = int(config["num_layers"]), int(config["num_kv_heads"]) * int(config["head_dim"])
    default = {"frequencies": plain_frequencies(int(config["head_dim"]), float(config.get("rope_theta", 1)))}
    ropes, windows = config.get("ropes", [default]), config.get("layer_windows", [0] * count)
    embedding_scale, cap = np.float32(config.get("embedding_scale", 1)), float(config.get("logit_softcap", 0))

    def linear(module: str, x: Floats) -> Floats:
        y, bias = product(matrices[module], tensors, module, x), f"{module}.bias"
        return y + part(tensors, bias) if bias in tensors else y

    def side_by_side(together: str, apart: tuple[str, ...], ends: list[int], x: Floats) -> list[Floats]:
        if config.get("fused_projections"):
            return np.split(linear(together, x), ends, axis=1)
        return [linear(module, x) for module in apart]

    def norm(name: str, x: Floats) -> Floats:
        weight = part(tensors, f"{name}.weight") + np.float32(config.get("norm_offset", 0))
        return rms_norm(x, weight, float(config["rms_norm_eps"]))

    def norm_if(wanted: str, name: str, x: Floats) -> Floats:
        return norm(name, x) if config.get(wanted) else x

    def heads(x: Floats) -> Floats:
        return x.reshape(len(ids), -1, int(config["head_dim"]))

    def placed(x: Floats, rope: int) -> Floats:
        return x if rope < 0 else turn(x, 0, *_rope_table(ropes[rope], len(ids)))

    def attend(layer: str, rope: int, window: int, x: Floats) -> Floats:
        at = f"{layer}.self_attn"
        wide = int(config["num_heads"]) * int(config["head_dim"])
        names = (f"{at}.q_proj", f"{at}.k_proj", f"{at}.v_proj")
        query, key, value = map(heads, side_by_side(f"{at}.qkv_proj", names, [wide, wide + narrow], x))
        query, key = (placed(norm_if("head_norms", f"{at}.{name}_norm", vectors), rope) for name, vectors in (("q", query), ("k", key)))
        attended = attention(query, key, value, config.get("attention_scale"), float(config.get("attention_softcap", 0)), window)
        return linear(f"{at}.o_proj", attended.reshape(len(ids), -1))

    def mlp(layer: str, x: Floats) -> Floats:
        names = (f"{layer}.mlp.gate_proj", f"{layer}.mlp.up_proj")
        gate, up = side_by_side(f"{layer}.mlp.gate_up_proj", names, [int(config["intermediate_size"])], x)
        return linear(f"{layer}.mlp.down_proj", gated_mlp(gate, up, str(config.get("activation", "silu"))))

    hidden = embedding(matrices["model.embed_tokens"], tensors, ids) * embedding_scale
    before_mlp = "pre_feedforward_layernorm" if config.get("sandwich_norms") else "post_attention_layernorm"
    for i, (rope, window) in enumerate(zip(config.get("layer_ropes", [0] * count), windows, strict=True)):
        layer = f"model.layers.{i}"
        attended = attend(layer, rope, window, norm(f"{layer}.input_layernorm", hidden))
        hidden = hidden + norm_if("sandwich_norms", f"{layer}.post_attention_layernorm", attended)
        inner = mlp(layer, norm(f"{layer}.{before_mlp}", hidden))
        hidden = hidden + norm_if("sandwich_norms", f"{layer}.post_feedforward_layernorm", inner)
    logits = linear("model.embed_tokens" if config["tie_embeddings"] else "lm_head", norm("model.norm", hidden))
    return softcap(logits, cap) if cap else logits


def _rope_table(rope: Mapping[str, Any], capacity: int) -> tuple[Floats, float]:
    """Frequencies and scale of a rope in a cache with room for `capacity` tokens."""
    long = rope.get("long_frequencies") if capacity > rope.get("original_length", 0) else None
    return np.asarray(long or rope["frequencies"], np.float32), float(rope.get("scale", 1.0))
