"""What of a tokenizer.json GGUF has words for, and that the rest is refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from leanto_edge import UnsupportedModelError
from leanto_edge.export.gguf_tokenizer import (
    BYTE,
    CONTROL,
    NORMAL,
    SPACE,
    UNKNOWN,
    UNUSED,
    USER_DEFINED,
    GgufTokenizer,
    read_gguf_tokenizer,
)

FILE = Path("tokenizer.json")
BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}
REPLACE = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN2 = LLAMA3.replace("{1,3}", "")


def byte_level(pre: Any, **model: Any) -> dict[str, Any]:
    vocab = {"<s>": 0, "a": 1, "b": 2, "ab": 3}
    added = [{"id": 0, "content": "<s>", "special": True}, {"id": 4, "content": "<tool>", "special": False}]
    return {"model": {"type": "BPE", "vocab": vocab, "merges": [["a", "b"]], **model}, "added_tokens": added, "pre_tokenizer": pre}


def sentencepiece(**change: Any) -> dict[str, Any]:
    pieces = ["<unk>", "<s>", "<0x41>", SPACE, "a", "b", "ab", f"{SPACE}a", f"{SPACE}ab"]
    merges = [f"{SPACE} a", "a b", f"{SPACE}a b", f"{SPACE} ab"]
    model = {
        "type": "BPE",
        "vocab": {piece: i for i, piece in enumerate(pieces)},
        "merges": merges,
        "unk_token": "<unk>",
        "byte_fallback": True,
    }
    prepend = {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": SPACE}, REPLACE]}
    return {"model": model, "added_tokens": [{"id": 1, "content": "<s>", "special": True}], "normalizer": prepend, **change}


def read(content: dict[str, Any], size: int = 9) -> GgufTokenizer:
    return read_gguf_tokenizer(FILE, json.loads(json.dumps(content)), size)


def split(pattern: str) -> dict[str, Any]:
    parts = [{"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}, BYTE_LEVEL]
    return {"type": "Sequence", "pretokenizers": parts}


def test_byte_level_pieces_have_their_types_and_merges() -> None:
    found = read(byte_level({**BYTE_LEVEL, "use_regex": True}), 6)
    assert (found.model, found.pre, found.space_prefix) == ("gpt2", "gpt-2", False)
    assert found.tokens == ("<s>", "a", "b", "ab", "<tool>", "[PAD5]")
    assert found.types == (CONTROL, NORMAL, NORMAL, NORMAL, USER_DEFINED, UNUSED)
    assert found.merges == ("a b",)


@pytest.mark.parametrize(
    ("pre", "ignore_merges", "name"),
    [
        (split(LLAMA3), True, "llama-bpe"),
        (split(LLAMA3), False, "smaug-bpe"),
        (split(QWEN2), False, "qwen2"),
        (
            {"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": True}, {**BYTE_LEVEL, "use_regex": True}]},
            False,
            "smollm",
        ),
    ],
)
def test_a_split_into_words_is_known_by_its_pattern(pre: dict[str, Any], ignore_merges: bool, name: str) -> None:
    assert read(byte_level(pre, ignore_merges=ignore_merges)).pre == name


@pytest.mark.parametrize(
    "content",
    [
        byte_level(split(r"\w+")),
        byte_level(split(QWEN2), ignore_merges=True),
        byte_level(BYTE_LEVEL),
        byte_level({"type": "Sequence", "pretokenizers": [{"type": "Whitespace"}, BYTE_LEVEL]}),
    ],
)
def test_an_unknown_split_is_refused(content: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedModelError, match="splits text in a way that GGUF has no name for"):
        read(content)


def test_sentencepiece_merges_become_scores() -> None:
    found = read(sentencepiece(), 10)
    assert (found.model, found.pre, found.space_prefix, found.merges) == ("llama", "default", True, ())
    assert found.types == (UNKNOWN, CONTROL, BYTE, *[NORMAL] * 6, UNUSED)
    assert found.scores[6:9] == (-1.0, -0.0, -2.0)
    assert found.scores[4] < min(found.scores[6:9])  # pieces that nothing is merged into


@pytest.mark.parametrize(
    ("change", "prefix"),
    [
        ({"normalizer": REPLACE, "pre_tokenizer": {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious"}}, False),
        (
            {"normalizer": None, "pre_tokenizer": {"type": "Metaspace", "replacement": SPACE, "prepend_scheme": "first", "split": False}},
            True,
        ),
        (
            {"normalizer": None, "pre_tokenizer": {"type": "Metaspace", "replacement": SPACE, "prepend_scheme": "never", "split": False}},
            False,
        ),
    ],
)
def test_the_spellings_of_a_sentencepiece_tokenizer_are_known(change: dict[str, Any], prefix: bool) -> None:
    assert read(sentencepiece(**change)).space_prefix is prefix


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({"model": {"type": "Unigram"}}, "'Unigram'"),
        (sentencepiece(normalizer={"type": "NFKC"}), "'NFKC'"),
        (sentencepiece(normalizer=None), "neither byte-level BPE nor"),
        (byte_level(BYTE_LEVEL, merges=[]), "no merges"),
        ({**byte_level(split(QWEN2)), "normalizer": {"type": "Lowercase"}}, "'Lowercase'"),
    ],
)
def test_what_has_no_words_in_gguf_is_refused_by_name(content: dict[str, Any], reason: str) -> None:
    with pytest.raises(UnsupportedModelError, match=reason):
        read(content)


def test_pieces_that_are_never_joined_are_refused() -> None:
    content = sentencepiece()
    content["model"]["merges"].remove(f"{SPACE} ab")
    with pytest.raises(UnsupportedModelError, match="never joins"):
        read(content)


def test_a_normal_form_is_told() -> None:
    assert read({**byte_level(split(QWEN2)), "normalizer": {"type": "NFC"}}).normalizes
    assert not read(byte_level(split(QWEN2))).normalizes
