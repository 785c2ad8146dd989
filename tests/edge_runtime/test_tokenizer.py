"""Streaming text out of token ids: whole characters only, nothing lost, stop texts never shown."""

from __future__ import annotations

from pathlib import Path

import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st

from leanto_edge.errors import ArtifactError
from leanto_edge.tokenizer import StopMatcher, StreamDecoder, Tokenizer


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    raw = tokenizers.Tokenizer(tokenizers.models.BPE())
    raw.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=True)  # type: ignore[assignment]
    raw.decoder = tokenizers.decoders.ByteLevel()  # type: ignore[assignment]
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


@given(text=st.text(max_size=60))
def test_streamed_text_is_the_decoded_text(tokenizer: Tokenizer, text: str) -> None:
    ids = tokenizer.encode(text)[1:]
    decoder = StreamDecoder(tokenizer)
    pieces = [decoder.push(token) for token in ids]
    assert "".join(pieces) + decoder.flush() == tokenizer.decode(ids)


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
    with pytest.raises(ArtifactError, match="not a readable tokenizer") as caught:
        Tokenizer(path, None)
    assert "\n" not in str(caught.value)
