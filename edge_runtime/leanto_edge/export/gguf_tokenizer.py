"""A tokenizer.json in the words of GGUF: the kind of tokenizer, its pieces with their types and scores, and its merges.

Two kinds can be said there so that the same text gives the same ids: byte-level BPE with a known split into words, and the BPE of
sentencepiece. Every other one is refused by name. Knows nothing of weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from leanto_edge.errors import UnsupportedModelError

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)  # token types of GGUF
SPACE = "\N{LOWER ONE EIGHTH BLOCK}"  # how sentencepiece writes a space

_CONTRACTIONS, _REST = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)", r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_LLAMA3 = rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1,3}}{_REST}"
_QWEN2 = rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{_REST}"
_SPLITS: Mapping[tuple[str, bool], str] = {  # (pattern, whole words of the vocabulary are taken as they are): the name in GGUF
    (_LLAMA3, True): "llama-bpe",
    (_LLAMA3, False): "smaug-bpe",
    (_QWEN2, False): "qwen2",
}


@dataclass(frozen=True, slots=True)
class GgufTokenizer:
    """`model` "gpt2" is byte-level BPE, split into words as `pre` says; "llama" that of sentencepiece, whose `scores` order the merges."""

    model: Literal["gpt2", "llama"]
    pre: str
    tokens: tuple[str, ...]
    types: tuple[int, ...]
    scores: tuple[float, ...]
    merges: tuple[str, ...]
    space_prefix: bool
    normalizes: bool = False  # to NFC, for which GGUF has no word


def read_gguf_tokenizer(file: Path, content: Mapping[str, Any], vocab_size: int) -> GgufTokenizer:
    """The tokenizer of `content` (a parsed tokenizer.json), with names for the ids that it lacks up to `vocab_size`.

    Raises UnsupportedModelError (`file` is the tokenizer.json's) for one that GGUF has no words for.
    """
    model = content["model"]
    kind = model.get("type")
    if kind != "BPE":
        raise UnsupportedModelError(file, f"the tokenizer is of type {kind!r:.40}; GGUF can say BPE only")
    merges = tuple(merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"])
    if not merges:
        raise UnsupportedModelError(file, "the tokenizer has no merges, and readers of GGUF load none without")
    pieces = {token_id: piece for piece, token_id in model["vocab"].items()}
    added = {entry["id"]: entry for entry in content.get("added_tokens") or ()}
    tokens = tuple(added[i]["content"] if i in added else pieces.get(i, f"[PAD{i}]") for i in range(vocab_size))
    types = tuple(_type(i, added.get(i), pieces.get(i), model) for i in range(vocab_size))
    parts = _parts(content.get("pre_tokenizer"), "pretokenizers")
    if any(part["type"] == "ByteLevel" for part in parts):
        prefix = any(part.get("add_prefix_space", False) for part in parts if part["type"] == "ByteLevel")
        steps = [step["type"] for step in _parts(content.get("normalizer"), "normalizers")]
        if steps not in ([], ["NFC"]):
            raise UnsupportedModelError(file, f"the tokenizer has a step {steps[0]!r:.40} that GGUF has no words for")
        return GgufTokenizer("gpt2", _split(file, parts, model), tokens, types, (), merges, prefix, bool(steps))
    prefix = _sentencepiece_prefix(file, content, parts, model)
    return GgufTokenizer("llama", "default", tokens, types, _scores(file, tokens, types, merges), (), prefix)


def _type(token_id: int, added: Mapping[str, Any] | None, piece: str | None, model: Mapping[str, Any]) -> int:
    if piece is not None and piece == model.get("unk_token"):
        return UNKNOWN
    if added is not None:
        return CONTROL if added.get("special") else USER_DEFINED
    if piece is None:
        return UNUSED
    return BYTE if model.get("byte_fallback") and len(piece) == 6 and piece.startswith("<0x") and piece.endswith(">") else NORMAL


def _split(file: Path, parts: list[Mapping[str, Any]], model: Mapping[str, Any]) -> str:
    """The name that GGUF has for a split into words."""
    whole = bool(model.get("ignore_merges"))
    kinds = [part["type"] for part in parts]
    name = None
    if kinds == ["ByteLevel"] and parts[0].get("use_regex", True) and not whole:
        name = "gpt-2"
    elif kinds == ["Digits", "ByteLevel"] and parts[0].get("individual_digits") and parts[1].get("use_regex", True) and not whole:
        name = "smollm"
    elif kinds == ["Split", "ByteLevel"] and not parts[1].get("use_regex", True) and not parts[0].get("invert"):
        name = _SPLITS.get((parts[0]["pattern"].get("Regex", ""), whole))
    if name is None:
        raise UnsupportedModelError(file, f"the tokenizer splits text in a way that GGUF has no name for ({' + '.join(kinds)})")
    return name


def _sentencepiece_prefix(file: Path, content: Mapping[str, Any], parts: list[Mapping[str, Any]], model: Mapping[str, Any]) -> bool:
    """Whether a text begins with a space; refuse what does more to it than to write its spaces as sentencepiece does."""
    steps = [*_parts(content.get("normalizer"), "normalizers"), *parts]
    prefix = writes = False
    for step in steps:
        kind = step["type"]
        if kind == "Prepend" and step["prepend"] == SPACE:
            prefix = True
        elif kind == "Replace" and step["pattern"] == {"String": " "} and step["content"] == SPACE:
            writes = True
        elif kind == "Metaspace" and step.get("replacement", SPACE) == SPACE and not step.get("split", True):
            prefix, writes = step.get("prepend_scheme", "always") != "never", True
        elif kind != "Split" or step["pattern"] != {"String": " "} or not writes:  # after Replace there is no space to split at
            raise UnsupportedModelError(file, f"the tokenizer has a step {kind!r:.40} that GGUF has no words for")
    if not writes or not model.get("byte_fallback"):
        raise UnsupportedModelError(file, "the tokenizer is neither byte-level BPE nor that of sentencepiece with byte fallback")
    return prefix


def _scores(file: Path, tokens: tuple[str, ...], types: tuple[int, ...], merges: tuple[str, ...]) -> tuple[float, ...]:
    """Minus the rank of the first merge that makes a piece. Readers of GGUF join any two pieces that make a third: refuse where not
    every such pair is a merge."""
    ranks: dict[str, int] = {}
    for rank, merge in enumerate(merges):
        ranks.setdefault(merge.replace(" ", ""), rank)
    pairs, normal = set(merges), {token for token, kind in zip(tokens, types, strict=True) if kind == NORMAL}
    for token in normal:
        for at in range(1, len(token)):
            if token[:at] in normal and token[at:] in normal and f"{token[:at]} {token[at:]}" not in pairs:
                raise UnsupportedModelError(
                    file, f"the tokenizer never joins {token[:at]!r:.20} and {token[at:]!r:.20}, GGUF cannot say so"
                )
    last = float(len(merges))
    return tuple(-float(ranks.get(token, last)) if kind == NORMAL else 0.0 for token, kind in zip(tokens, types, strict=True))


def _parts(step: Mapping[str, Any] | None, key: str) -> list[Mapping[str, Any]]:
    """The steps of a sequence, of a single step, or of none."""
    if step is None:
        return []
    return [part for inner in step[key] for part in _parts(inner, key)] if step["type"] == "Sequence" else [step]
