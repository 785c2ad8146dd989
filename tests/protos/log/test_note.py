"""Notes, keys and checkpoints: what was written is read back, and nothing else is."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from leanto_wire.errors import LogError
from leanto_wire.log.checkpoint import Checkpoint, parse_checkpoint
from leanto_wire.log.note import COSIGNATURE, ED25519, MAX_NOTE_BYTES, Note, Verifier, parse_note, sign
from leanto_wire.log.tiles import pack_entries, tile_path, unpack_entries

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
LOG = Verifier("example.com/log", ED25519, KEY.public_key().public_bytes_raw())


def note(text: str = "one line\n") -> Note:
    return Note(text, (sign(text, KEY, LOG.name),))


def test_the_key_of_the_specification_is_read_and_written() -> None:
    # C2SP signed-note's own example of an encoded key
    text = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
    key = Verifier.parse(text)
    assert (key.name, key.kind, str(key)) == ("PeterNeumann", ED25519, text)


def test_the_note_of_the_specification_is_verified() -> None:
    # C2SP signed-note's own example
    text = (
        "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n\n"
        "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
    )
    found = parse_note(text.encode())
    assert found.signed_at(Verifier.parse("PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW")) == 0
    assert str(found) == text


def test_a_cosignature_says_when() -> None:
    text = "one line\n"
    witness = Verifier("w.example", COSIGNATURE, LOG.public)
    both = Note(text, (sign(text, KEY, LOG.name), sign(text, KEY, "w.example", kind=COSIGNATURE, at=1_700_000_000)))
    read = parse_note(str(both).encode())
    assert (read.signed_at(LOG), read.signed_at(witness)) == (0, 1_700_000_000)


@pytest.mark.parametrize("changed", ["text", "signature", "name"])
def test_a_note_that_was_changed_is_not_signed(changed: str) -> None:
    good = note()
    name, key_id, raw = good.signatures[0]
    bad = {
        "text": Note("another line\n", good.signatures),
        "signature": Note(good.text, ((name, key_id, bytes([raw[0] ^ 1]) + raw[1:]),)),
        "name": Note(good.text, (("someone-else", key_id, raw),)),
    }[changed]
    assert good.signed_at(LOG) == 0
    assert bad.signed_at(LOG) is None


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"no signatures\n",
        b"no signatures\n\n",
        b"text\n\n- log AAAAAAAA\n",
        "text\n\n— log\n".encode(),
        "text\n\n— log not base64\n".encode(),
        "text\n\n— log AAAA\n".encode(),
        "text\n\n— log AAAAAAAAAA==".encode(),
        "te\txt\n\n— log AAAAAAAAAA==\n".encode(),
        b"\xff\xfe\n\n",
        b"x" * (MAX_NOTE_BYTES + 1),
        ("text\n\n" + "— log AAAAAAAAAA==\n" * 65).encode(),
    ],
)
def test_what_is_no_note_is_refused(raw: bytes) -> None:
    with pytest.raises(LogError):
        parse_note(raw)


@pytest.mark.parametrize(
    "text", ["", "a+b", "log+00000000+AQ==", "log+zz+!!", "a b+00000000+AQ==", str(LOG).replace("+", "+0", 1), str(LOG)[:-4]]
)
def test_what_is_no_key_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="key"):
        Verifier.parse(text)


@given(st.builds(Checkpoint, st.just(LOG.name), st.integers(0, 2**62), st.binary(min_size=32, max_size=32)))
def test_every_checkpoint_is_read_back(checkpoint: Checkpoint) -> None:
    assert parse_checkpoint(str(note(checkpoint.text())).encode())[0] == checkpoint


@pytest.mark.parametrize(
    "text", ["log\n5\n", "log\n05\nROOT\n", "log\n-1\nROOT\n", "log\n5\nAAAA\n", "\n5\nROOT\n", "log\n5\nROOT\nmore\n", "log\n٥\nROOT\n"]
)
def test_what_is_no_checkpoint_is_refused(text: str) -> None:
    root = "A" * 43 + "="
    with pytest.raises(LogError):
        parse_checkpoint(str(note(text.replace("ROOT", root))).encode())


@given(st.binary(max_size=300) | st.text(max_size=200).map(lambda text: f"{text}\n\n— log AAAAAAAAAA==\n".encode()))
def test_any_bytes_are_read_or_refused(raw: bytes) -> None:
    with contextlib.suppress(LogError):
        parse_checkpoint(raw)
    with contextlib.suppress(LogError):
        assert pack_entries(unpack_entries(raw)) == raw


@given(st.lists(st.binary(max_size=20), max_size=256))
def test_a_bundle_of_entries_is_read_back(entries: list[bytes]) -> None:
    assert unpack_entries(pack_entries(entries)) == entries


def test_tiles_lie_where_the_specification_says() -> None:
    paths: list[Any] = [tile_path(0, 0), tile_path(1, 5, 7), tile_path("entries", 1_234_067)]
    assert paths == ["tile/0/000", "tile/1/005.p/7", "tile/entries/x001/x234/067"]
