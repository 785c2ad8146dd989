"""Streaming text out of token ids: whole characters only, nothing lost, stop texts never shown."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from hypothesis import assume, example, given
from hypothesis import strategies as st

from leanto_edge.errors import ArtifactError
from leanto_edge.tokenizer import StopMatcher, StreamDecoder, Tokenizer, begins_with_bos


@pytest.fixture(scope="module")
def fallback(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    """As sentencepiece makes them: ▁ for spaces, <0xNN> for the bytes of characters without a piece."""
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", *"abcdeit", "▁a", "at", "▁▁"]
    merges = [("▁", "a"), ("a", "t"), ("▁", "▁")]
    raw = tokenizers.Tokenizer(
        tokenizers.models.BPE({piece: at for at, piece in enumerate(pieces)}, merges, unk_token="<unk>", byte_fallback=True)
    )
    raw.add_special_tokens(["<unk>", "<s>", "</s>"])
    raw.normalizer = tokenizers.normalizers.Sequence([tokenizers.normalizers.Prepend("▁"), tokenizers.normalizers.Replace(" ", "▁")])
    decoders = tokenizers.decoders
    raw.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    raw.enable_padding(length=64)  # a shipped setting that must not reach the prompts
    path = tmp_path_factory.mktemp("fallback") / "tokenizer.json"
    raw.save(str(path))
    return Tokenizer(path, bos_id=1)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    raw = tokenizers.Tokenizer(tokenizers.models.BPE())
    raw.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=True)
    raw.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<bos>", "<eos>"],
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    raw.train_from_iterator(["the cat sat on the mat", "wake me at six"], trainer)
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    raw.save(str(path))
    return Tokenizer(path, bos_id=0)


TEXTS = st.text(max_size=60) | st.text("中国好🎵at ", max_size=40)


@given(text=TEXTS)
@example(text=" a")
def test_streamed_text_is_the_decoded_text(tokenizer: Tokenizer, fallback: Tokenizer, text: str) -> None:
    for each in (tokenizer, fallback):
        ids = each.encode(text)[1:]
        decoder = StreamDecoder(each)
        pieces = [decoder.push(token) for token in ids]
        assert "".join(pieces) + decoder.flush() == each.decode(ids)


@given(text=TEXTS, data=st.data())
def test_a_stream_goes_on_where_any_context_ends(tokenizer: Tokenizer, fallback: Tokenizer, text: str, data: st.DataObject) -> None:
    for each in (tokenizer, fallback):
        ids = each.encode(text)
        start = data.draw(st.integers(1, len(ids)))
        before, rest = each.decode(ids[:start]), ids[start:]
        assume(not before.endswith("\ufffd"))
        decoder = StreamDecoder(each, ids[:start])
        pieces = [decoder.push(token) + decoder.push(each.bos_id or 0) for token in rest]  # a special token shows nothing
        assert before + "".join(pieces) + decoder.flush() == each.decode(ids)


@given(text=st.text(min_size=1, max_size=20))
def test_no_piece_shows_half_a_character(tokenizer: Tokenizer, text: str) -> None:
    decoder = StreamDecoder(tokenizer)
    for token in tokenizer.encode(text)[1:]:
        assert decoder.push(token) in " " + text


def test_special_tokens_typed_by_a_user_stay_text(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("<eos><bos>")
    assert ids[0] == 0
    assert not {0, 1} & set(ids[1:])


@given(
    pieces=st.lists(st.text("abc", max_size=4), max_size=12),
    stop=st.lists(st.text("abc", min_size=1, max_size=3), max_size=3),
)
def test_stop_texts_cut_exactly_where_they_first_appear(pieces: list[str], stop: list[str]) -> None:
    matcher = StopMatcher(stop)
    shown, seen = "", ""
    for piece in pieces:
        seen += piece
        shown += matcher.push(piece)
        if matcher.stopped:
            break
    shown += matcher.flush()
    cuts = [at for at in (seen.find(text) for text in stop) if at >= 0]
    assert shown == (seen[: min(cuts)] if cuts else seen)


def test_a_damaged_tokenizer_is_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text("{")
    with pytest.raises(ArtifactError, match="not a usable tokenizer") as caught:
        Tokenizer(path, None)
    assert "\n" not in str(caught.value)


ABC: dict[str, Any] = {"version": "1.0", "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": [["a", "b"]]}}
BEGIN = {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]}


@pytest.mark.parametrize(
    "wrong",
    [
        {"model": {**ABC["model"], "continuing_subword_prefix": "longer than the pieces"}},  # a panic of the library at loading
        {"model": {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "[UNK]"}},  # a fault at the first unknown word
        {"post_processor": {**BEGIN, "pair": [], "special_tokens": {"<s>": {"id": "<s>", "ids": [2**32 - 1], "tokens": ["<s>"]}}}},
    ],
    ids=["a prefix", "no unknown", "a token beyond"],
)
def test_a_tokenizer_that_no_text_can_pass_is_refused_as_a_file(tmp_path: Path, wrong: dict[str, Any]) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps({**ABC, **wrong}))
    with pytest.raises(ArtifactError, match="fetch the artifact again"):
        Tokenizer(path, None).encode("ab and what no piece has")


@pytest.mark.parametrize(
    ("settings", "begins"),
    [
        ({}, True),
        ({"bos_token": "<s>"}, True),
        ({"bos_token": None, "tokenizer_class": "PreTrainedTokenizerFast"}, False),
        ({"bos_token": "<s>", "add_bos_token": False, "tokenizer_class": "LlamaTokenizer"}, False),
        ({"bos_token": "<s>", "add_bos_token": True, "tokenizer_class": "GPT2Tokenizer"}, True),
        ({"bos_token": "<s>", "tokenizer_class": "GPT2TokenizerFast"}, False),
        ({"add_bos_token": None, "tokenizer_class": 3}, True),
    ],
)
def test_texts_begin_with_bos_where_the_tokenizers_settings_say_so(settings: dict[str, object], begins: bool) -> None:
    assert begins_with_bos(settings) is begins
