from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from leanto_edge import ArtifactError
from leanto_edge.compress.calibration import Calibration, read_calibration
from leanto_edge.tokenizer import Tokenizer


@pytest.fixture(scope="session")
def tokenizer(teacher: Path) -> Tokenizer:
    return Tokenizer(teacher / "tokenizer.json", bos_id=0)


def read(path: Path, tokenizer: Tokenizer, tokens: int = 1000, longest: int = 64, seed: int = 0) -> Calibration:
    return read_calibration(path, tokenizer, vocab_size=264, longest=longest, tokens=tokens, held_out_tokens=200, seed=seed)


def test_documents_start_with_bos_and_fit_the_context(calibration: Path, tokenizer: Tokenizer) -> None:
    text = read(calibration, tokenizer, longest=20)
    for document in (*text.documents, *text.held_out):
        assert document[0] == 0
        assert 2 <= len(document) <= 20


def test_no_held_out_document_is_calibrated_on(calibration: Path, tokenizer: Tokenizer) -> None:
    text = read(calibration, tokenizer, tokens=10**6)
    assert not set(text.documents) & set(text.held_out)


def test_the_seed_sets_the_order(calibration: Path, tokenizer: Tokenizer) -> None:
    assert read(calibration, tokenizer) == read(calibration, tokenizer)
    assert read(calibration, tokenizer).documents != read(calibration, tokenizer, seed=1).documents


def test_token_lists_are_taken_as_they_are(tmp_path: Path, tokenizer: Tokenizer) -> None:
    path = tmp_path / "ids.jsonl"
    path.write_text("".join(f"[{i % 200}, 5, 6, 7]\n\n" for i in range(400)))
    assert {document[1:] for document in read(path, tokenizer).documents} == {(5, 6, 7)}


def test_one_long_document_is_cut_in_pieces(tmp_path: Path, tokenizer: Tokenizer) -> None:
    path = tmp_path / "book.txt"
    path.write_text("a long story without an end " * 4000)
    assert read(path, tokenizer).held_out


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("none.txt", None, "cannot be read"),
        ("short.txt", b"too short", "too little"),
        ("latin.txt", b"\xe9" * 4000, "not UTF-8"),
        ("ids.jsonl", b"[1, 2]\n[1, 2.5]\n", "line 2"),
        ("ids.jsonl", b"[1, 264]\n", "line 1"),
        ("ids.jsonl", b"[[[[", "line 1"),
        ("ids.jsonl", b"{}\n", "line 1"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused(tmp_path: Path, tokenizer: Tokenizer, name: str, content: bytes | None, reason: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ArtifactError, match=reason):
        read(tmp_path / name, tokenizer)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=3000), suffix=st.sampled_from([".txt", ".jsonl"]))
def test_any_bytes_are_read_or_refused(tmp_path: Path, tokenizer: Tokenizer, content: bytes, suffix: str) -> None:
    path = tmp_path / f"any{suffix}"
    path.write_bytes(content)
    with contextlib.suppress(ArtifactError):
        assert read(path, tokenizer).documents
