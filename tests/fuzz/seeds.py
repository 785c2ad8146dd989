"""Sound model folders, as small as they get, with every way in which the format stores a matrix: what the fuzzer starts from."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from artifacts import CONFIG, byte_tokenizer, random_tensors, tiny_shape, write_plain
from leanto_edge.adapter import largest_ranks, write_adapter
from leanto_edge.artifact import read_artifact, write_artifact
from leanto_edge.artifact.layout import EMBEDDING, HEAD, MatrixSpec, matrix_sizes
from leanto_edge.calls import CallSchema

ADAPTER = "adapter"  # the name under which an adapter stands among the files of its base
SCHEMA = CallSchema({"light_on": ("room", "time"), "none": ()})

SMALL: dict[str, Any] = {
    **CONFIG,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 16,
}
LONGROPE = {
    "rope_type": "longrope",
    "rope_theta": 1e4,
    "partial_rotary_factor": 0.5,
    "short_factor": [1, 2, 3, 4],
    "long_factor": [3.0, 8, 8, 9],
}
FORMS: Mapping[str, tuple[dict[str, Any], dict[str, Any]]] = {  # of every matrix, and what the config says beyond SMALL
    "trellis": ({"kind": "trellis", "bits": 2, "rank": 3, "in_seed": 7}, {"eos_token_id": [1, 7], "bos_token_id": None}),
    "additive": (
        {"kind": "additive", "bits": 3, "rank": 8, "factor_bits": 4, "out_seed": 9},
        {"model_type": "qwen3", "tie_word_embeddings": False},
    ),
    "scalar": (
        {"kind": "scalar", "bits": 4, "rank": 2, "factor_bits": 8},
        {"model_type": "phi3", "rope_parameters": LONGROPE, "original_max_position_embeddings": 20},
    ),
    "int8": ({"kind": "int8", "bits": 8}, {"model_type": "gemma2", "sliding_window": 3, "query_pre_attn_scalar": 8}),
    "dense": ({"kind": "dense", "bits": 32}, {"attention_bias": True, "rope_scaling": {"type": "linear", "factor": 2.0}}),
}
SEEDS = (*FORMS, "plain", "unigram", "pieces")


@cache
def seed(name: str) -> Mapping[str, bytes]:
    """The files of one of SEEDS."""
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "model"
        if name in FORMS:
            _write_compressed(path, *FORMS[name])
        else:
            write_plain(path, SMALL)
            tokenizer = {"plain": _fallback, "unigram": _unigram, "pieces": _pieces}[name]()
            (path / "tokenizer.json").write_text(tokenizer.to_str())
        _write_adapter(path)
        return MappingProxyType({file.name: file.read_bytes() for file in sorted(path.iterdir())})


def _write_compressed(path: Path, form: dict[str, Any], more: dict[str, Any]) -> None:
    config = {**SMALL, **more, "vocab_size": SMALL["vocab_size"] + len(SCHEMA.special_tokens)}
    matrices = {name: MatrixSpec(rows=m, cols=n, **form) for name, (m, n) in matrix_sizes(tiny_shape(config)).items()}
    table = {key: value for key, value in form.items() if key in ("kind", "bits", "in_seed")}
    for name in {EMBEDDING, HEAD} & set(matrices):
        matrices[name] = MatrixSpec(rows=matrices[name].rows, cols=matrices[name].cols, **table)
    files = {"tokenizer.json": _tokenizer(), "calls.json": SCHEMA.to_json().encode(), "tokenizer_config.json": b'{"bos_token": "<s>"}'}
    write_artifact(path, config, matrices, random_tensors(matrices, config), files, {"quality": {"fit": True}, "confidence": {}})


def _tokenizer() -> bytes:
    """One that knows SCHEMA."""
    tokenizer = Tokenizer.from_str(byte_tokenizer().decode())
    tokenizer.add_special_tokens(list(SCHEMA.special_tokens))
    return tokenizer.to_str().encode()


def _fallback() -> Tokenizer:
    """As sentencepiece makes them for Llama: ▁ for spaces, <0xNN> for the bytes of characters without a piece, a BOS in front."""
    pieces = ["<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", *"ligh", "gh"]
    tokenizer = Tokenizer(models.BPE({piece: at for at, piece in enumerate(pieces)}, [("g", "h")], byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    tokenizer.add_special_tokens(["<s>", "</s>"])
    return tokenizer


def _unigram() -> Tokenizer:
    """As sentencepiece makes them for T5."""
    letters = [(letter, -3.0) for letter in "▁lightonasx"]
    tokenizer = Tokenizer(models.Unigram([("<unk>", 0.0), *letters, ("▁light", -1.5)], unk_id=0))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.StripAccents(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.enable_padding(length=40)
    tokenizer.enable_truncation(max_length=30)
    return tokenizer


def _pieces() -> Tokenizer:
    """As BERT has them."""
    pieces = {piece: at for at, piece in enumerate(["[UNK]", "[CLS]", "[SEP]", "light", "on", "##s", "at", "si", "##x"])}
    tokenizer = Tokenizer(models.WordPiece(pieces, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.BertPreTokenizer(), pre_tokenizers.Split("a", "isolated")])
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 2), ("[CLS]", 1))
    return tokenizer


def _write_adapter(path: Path) -> None:
    artifact = read_artifact(path)
    factors = {}
    for module in largest_ranks(artifact):
        rows, cols = artifact.matrices[module]["rows"], artifact.matrices[module]["cols"]
        factors[module] = (np.full((rows, 1), 0.01, np.float16), np.full((1, cols), 0.01, np.float16))
    write_adapter(path / ADAPTER, artifact, factors, training={"minutes": 1})
