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
from safetensors.torch import save_file
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
    "pocket": Size(hidden=192, ffn=512, layers=5, heads=6, kv_heads=2, dropout=0.03, learning_rate=3e-3),
    "pocket-large": Size(hidden=512, ffn=1024, layers=4, heads=8, kv_heads=4, dropout=0.12, learning_rate=1.6e-3),
}


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

    def forward(self, x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
        """The next residual stream; cosine and sine: (tokens, width)."""
        size, (batch, tokens, _) = self.size, x.shape
        h = self.input_layernorm(x)
        q, k, v = (proj(h).view(batch, tokens, -1, size.width).transpose(1, 2) for proj in (self.q_proj, self.k_proj, self.v_proj))
        q, k = (turned.to(v.dtype) for turned in (_rope(q, cosine, sine), _rope(k, cosine, sine)))
        k, v = (t.repeat_interleave(size.heads // size.kv_heads, 1) for t in (k, v))
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(batch, tokens, -1)
        x = x + F.dropout(self.o_proj(attended), size.dropout, self.training)
        h = self.post_attention_layernorm(x)
        return x + F.dropout(self.down_proj(F.silu(self.gate_proj(h)) * self.up_proj(h)), size.dropout, self.training)


class Decoder(nn.Module):
    """Tied embeddings. `forward(ids: (batch, tokens))` gives the normed hidden states; `head` turns them into logits."""

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

    def forward(self, ids: Tensor) -> Tensor:
        """Hidden states (batch, tokens, hidden) of ids (batch, tokens)."""
        x = F.dropout(self.embed_tokens(ids), self.size.dropout / 2, self.training)
        for layer in self.layers:
            x = layer(x, self.cosine[: ids.shape[1]], self.sine[: ids.shape[1]])
        return self.norm(x)

    def head(self, hidden: Tensor) -> Tensor:
        """Logits (…, vocab) of hidden states (…, hidden)."""
        return F.linear(hidden, self.embed_tokens.weight)


def _rope(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    first, second = x.chunk(2, -1)
    return x * cosine + torch.cat([-second, first], -1) * sine


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
