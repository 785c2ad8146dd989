"""A Llama decoder in plain torch, trained here and exported in the Hugging Face layout that transformers and leanto_edge load.

Knows nothing of data.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

CONTEXT = 512
EPSILON = 1e-5
THETA = 10_000.0


@dataclass(frozen=True)
class Size:
    """The shape of one of the pair; `dropout` and `learning_rate` go with it."""

    hidden: int
    ffn: int
    layers: int
    heads: int
    kv_heads: int
    dropout: float
    learning_rate: float

    @property
    def width(self) -> int:
        """Elements of one head."""
        return self.hidden // self.heads


SIZES = {
    "pocket": Size(hidden=192, ffn=512, layers=5, heads=6, kv_heads=2, dropout=0.05, learning_rate=2e-3),
    "pocket-large": Size(hidden=256, ffn=768, layers=8, heads=8, kv_heads=4, dropout=0.08, learning_rate=1.3e-3),
}


Turn = tuple[Tensor, ...]  # cosine and sine, (batch, tokens, 1, width) each


class Layer(nn.Module):
    """Pre-norm attention and gated MLP. x: (batch, tokens, hidden)."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.size = size
        heads, kv = size.heads * size.width, size.kv_heads * size.width
        self.q_proj, self.k_proj, self.v_proj = (nn.Linear(size.hidden, out, bias=False) for out in (heads, kv, kv))
        self.o_proj = nn.Linear(heads, size.hidden, bias=False)
        self.gate_proj, self.up_proj = (nn.Linear(size.hidden, size.ffn, bias=False) for _ in range(2))
        self.down_proj = nn.Linear(size.ffn, size.hidden, bias=False)
        self.input_layernorm, self.post_attention_layernorm = (nn.RMSNorm(size.hidden, EPSILON) for _ in range(2))

    def forward(self, x: Tensor, turn: Turn, mask: Tensor, noise: tuple[Tensor, Tensor] | None) -> Tensor:
        """Hidden states after this layer, like `x`. mask: see `attention`; noise: dropout masks of its two branches."""
        size, (batch, tokens, _) = self.size, x.shape
        h = self.input_layernorm(x)
        q, k, v = (proj(h).view(batch, tokens, -1, size.width) for proj in (self.q_proj, self.k_proj, self.v_proj))
        attended = attention(_rope(q, turn), _rope(k, turn), v, mask)
        x = x + _drop(self.o_proj(attended), noise and noise[0])
        h = self.post_attention_layernorm(x)
        return x + _drop(self.down_proj(F.silu(self.gate_proj(h)) * self.up_proj(h)), noise and noise[1])


class Decoder(nn.Module):
    """Tied embeddings. `forward` gives the normed hidden states (batch, tokens, hidden); `head` turns them into logits.

    ids, positions, segments: (batch, tokens). A row holds several texts; a token sees only those of its own segment, up to itself.
    noise: dropout masks, two per layer, already scaled; None for none.
    """

    def __init__(self, size: Size, vocab: int) -> None:
        super().__init__()
        self.size = size
        self.embed_tokens = nn.Embedding(vocab, size.hidden)
        self.layers = nn.ModuleList(Layer(size) for _ in range(size.layers))
        self.norm = nn.RMSNorm(size.hidden, EPSILON)
        angles = torch.arange(CONTEXT)[:, None] * THETA ** (-torch.arange(0, size.width, 2) / size.width)
        angles = torch.cat([angles, angles], -1)
        self.register_buffer("cosine", angles.cos(), persistent=False)
        self.register_buffer("sine", angles.sin(), persistent=False)
        for name, weight in self.named_parameters():
            if weight.dim() == 2:
                residual = name.endswith(("o_proj.weight", "down_proj.weight"))
                nn.init.normal_(weight, 0.0, 0.02 / (math.sqrt(2 * size.layers) if residual else 1))

    def forward(self, ids: Tensor, positions: Tensor, segments: Tensor, noise: list[Tensor] | None = None) -> Tensor:
        """See the class."""
        together = segments[:, :, None] == segments[:, None, :]
        mask = torch.where(together.tril(), 0.0, float("-inf"))[:, None, None]
        x = self.embed_tokens(ids)
        dtype = torch.bfloat16 if torch.is_autocast_enabled("cpu") else x.dtype
        turn = tuple(table[positions][:, :, None].to(dtype) for table in (self.cosine, self.sine))
        for i, layer in enumerate(self.layers):
            x = layer(x, turn, mask, noise and (noise[2 * i], noise[2 * i + 1]))
        return self.norm(x)

    def head(self, hidden: Tensor) -> Tensor:
        """Logits (…, vocab) of hidden states (…, hidden)."""
        return F.linear(hidden, self.embed_tokens.weight)


def attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    """q: (batch, tokens, heads, width); k, v: (batch, tokens, kv_heads, width); mask: (batch, 1, 1, tokens, tokens), added to the scores.

    Two plain matrix products: on a CPU and for rows this short they are three times as fast as the fused attention.
    """
    batch, tokens, heads, width = q.shape
    kv = k.shape[2]
    q = q.view(batch, tokens, kv, heads // kv, width).permute(0, 2, 3, 1, 4).reshape(batch * kv, -1, width)
    k = k.permute(0, 2, 3, 1).reshape(batch * kv, width, tokens)
    v = v.permute(0, 2, 1, 3).reshape(batch * kv, tokens, width)
    scores = torch.bmm(q, k).float().view(batch, kv, -1, tokens, tokens) * width**-0.5
    shares = torch.softmax(scores + mask, -1).to(v.dtype).view(batch * kv, -1, tokens)
    return torch.bmm(shares, v).view(batch, kv, -1, tokens, width).permute(0, 3, 1, 2, 4).reshape(batch, tokens, heads * width)


def _rope(x: Tensor, turn: Turn) -> Tensor:
    first, second = x.chunk(2, -1)
    return x * turn[0] + torch.cat([-second, first], -1) * turn[1]


def _drop(x: Tensor, noise: Tensor | None) -> Tensor:
    return x if noise is None else x * noise.view_as(x)


def export(weights: dict[str, Tensor], size: Size, special: dict[str, int], folder: Path) -> None:
    """Write config.json, tokenizer_config.json and model.safetensors; `special` maps <pad>, <bos>, <eos> to ids."""
    folder.mkdir(parents=True, exist_ok=True)
    named = {}
    for name, weight in weights.items():
        part = name.split(".")[-2]
        block = "self_attn." if part in ("q_proj", "k_proj", "v_proj", "o_proj") else "mlp." if part.endswith("_proj") else ""
        named["model." + name.replace(part, block + part)] = weight.float().contiguous()
    save_file(named, folder / "model.safetensors", {"format": "pt"})
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": size.hidden,
        "intermediate_size": size.ffn,
        "num_hidden_layers": size.layers,
        "num_attention_heads": size.heads,
        "num_key_value_heads": size.kv_heads,
        "head_dim": size.width,
        "vocab_size": weights["embed_tokens.weight"].shape[0],
        "max_position_embeddings": CONTEXT,
        "rms_norm_eps": EPSILON,
        "rope_parameters": {"rope_theta": THETA, "rope_type": "default"},
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": True,
        "bos_token_id": special["<bos>"],
        "eos_token_id": special["<eos>"],
        "pad_token_id": special["<pad>"],
        "dtype": "float32",
    }
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    names = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": CONTEXT}
    names |= {f"{token[1:-1]}_token": token for token in special}
    (folder / "tokenizer_config.json").write_text(json.dumps(names, indent=1) + "\n")


def read_weights(folder: Path) -> dict[str, Tensor]:
    """What `export` wrote, by the names of a Decoder."""
    weights = load_file(folder / "model.safetensors")
    return {name.removeprefix("model.").replace("self_attn.", "").replace("mlp.", ""): weight for name, weight in weights.items()}


def grow(small: dict[str, Tensor], size: Size, decoder: Decoder) -> None:
    """Set a larger decoder so that it computes what the `small` weights of shape `size` do; training goes on from there.

    Heads keep their width, and each old key-value head has room for its query heads under one or more new ones that begin as its copies.
    New hidden places hold zero until something is written to them; new heads, feed-forward places and layers write nothing yet,
    but read at random, so they learn.
    """
    large = decoder.size
    ratio = (size.hidden / large.hidden) ** 0.5  # the mean square now counts more places
    origin = {round((i + 1) * large.layers / size.layers) - 1: i for i in range(size.layers)}
    copies, group, old_group = large.kv_heads // size.kv_heads, large.heads // large.kv_heads, size.heads // size.kv_heads
    slots = [(h // old_group * copies + h % old_group // group) * group + h % old_group % group for h in range(size.heads)]
    places = {"q_proj": slots, "o_proj": slots} | {name: [*range(large.kv_heads)] for name in ("k_proj", "v_proj")}

    def place(name: str, weight: Tensor, old: Tensor) -> None:
        if old.dim() == 1:
            weight[: len(old)] = old * ratio
        elif name == "o_proj":
            for h, slot in enumerate(slots):
                weight[: size.hidden, slot * size.width : (slot + 1) * size.width] = old[:, h * size.width : (h + 1) * size.width]
        elif name in places:
            for h, slot in enumerate(places[name]):
                h = h if name == "q_proj" else h // copies
                weight[slot * size.width : (slot + 1) * size.width, : size.hidden] = old[h * size.width : (h + 1) * size.width]
        else:
            weight[: old.shape[0], : old.shape[1]] = old

    with torch.no_grad():
        for name, weight in decoder.named_parameters():
            parts = name.split(".")
            if parts[-2] in ("o_proj", "down_proj", "embed_tokens"):
                weight.zero_()
            if parts[0] == "layers":
                if int(parts[1]) not in origin:
                    continue
                parts[1] = str(origin[int(parts[1])])
            place(parts[-2], weight, small[".".join(parts)])
