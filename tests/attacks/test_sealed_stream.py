"""Attacks on a sealed exchange by whoever carries its bytes. Each must be refused with a SealError."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leanto_wire.errors import SealError
from leanto_wire.keys import PrivateKey, public_key
from leanto_wire.seal import Binding, Opener, Sealed, open_request, seal_request

KEY = PrivateKey.generate()
BINDING = Binding(b"e" * 32, b"r" * 32)
PARTS = [(b"one", False), (b"two", False), (b"three", False), (b"end", True)]

Chunks = list[tuple[bytes, bool]]


def exchange() -> tuple[Sealed, Opener, Chunks]:
    sealed, opener = seal_request(b"prompt", public_key(KEY.public_bytes), BINDING)
    _, sealer = open_request(sealed, KEY, BINDING)
    return sealed, opener, [(sealer.seal(message, final=final), final) for message, final in PARTS]


def read(opener: Opener, chunks: Chunks) -> list[bytes]:
    messages = [opener.open(ciphertext, final=final) for ciphertext, final in chunks]
    opener.close()
    return messages


def test_the_untouched_answer_is_read() -> None:
    _, opener, chunks = exchange()
    assert read(opener, chunks) == [message for message, _ in PARTS]


def test_an_answer_cut_off_at_a_chunk_boundary_is_refused() -> None:
    _, opener, chunks = exchange()
    with pytest.raises(SealError, match="cut off after 3 chunks"):
        read(opener, chunks[:3])


def test_an_answer_of_nothing_is_refused() -> None:
    _, opener, _ = exchange()
    with pytest.raises(SealError, match="cut off after 0 chunks"):
        read(opener, [])


def test_a_chunk_cut_short_is_refused() -> None:
    _, opener, chunks = exchange()
    with pytest.raises(SealError, match="altered"):
        read(opener, [(chunks[0][0][:-1], False)])


def test_swapped_chunks_are_refused() -> None:
    _, opener, chunks = exchange()
    with pytest.raises(SealError, match="moved"):
        read(opener, [chunks[1], chunks[0], *chunks[2:]])


def test_a_repeated_chunk_is_refused() -> None:
    _, opener, chunks = exchange()
    with pytest.raises(SealError, match="chunk 1 was"):
        read(opener, [chunks[0], *chunks])


def test_a_dropped_chunk_is_refused() -> None:
    _, opener, chunks = exchange()
    with pytest.raises(SealError, match="chunk 1 was"):
        read(opener, [chunks[0], *chunks[2:]])


def test_a_chunk_after_the_final_one_is_refused() -> None:
    _, opener, chunks = exchange()
    with pytest.raises(SealError, match="follows the final one"):
        read(opener, [*chunks, chunks[0]])


def test_a_chunk_declared_final_to_cut_the_answer_is_refused() -> None:
    _, opener, chunks = exchange()
    with pytest.raises(SealError):
        read(opener, [chunks[0], (chunks[1][0], True)])


def test_a_final_chunk_declared_not_final_is_refused() -> None:
    _, opener, chunks = exchange()
    with pytest.raises(SealError):
        read(opener, [*chunks[:3], (chunks[3][0], False)])


def test_a_chunk_of_another_answer_is_refused() -> None:
    _, opener, _ = exchange()
    _, _, others = exchange()
    with pytest.raises(SealError, match="another request"):
        read(opener, others)


def test_the_request_sent_back_as_an_answer_is_refused() -> None:
    sealed, opener, _ = exchange()
    with pytest.raises(SealError):
        read(opener, [(sealed.ciphertext, True)])


@settings(max_examples=150)
@given(st.data())
def test_any_flipped_bit_of_an_answer_is_refused(data: st.DataObject) -> None:
    _, opener, chunks = exchange()
    raw = bytearray(chunks[0][0])
    bit = data.draw(st.integers(0, len(raw) * 8 - 1))
    raw[bit // 8] ^= 1 << bit % 8
    with pytest.raises(SealError):
        opener.open(bytes(raw), final=False)


@settings(max_examples=150)
@given(st.data())
def test_any_flipped_bit_of_a_request_is_refused(data: st.DataObject) -> None:
    sealed, _, _ = exchange()
    raw = bytearray(sealed.encapsulation + sealed.ciphertext)
    bit = data.draw(st.integers(0, len(raw) * 8 - 1))
    raw[bit // 8] ^= 1 << bit % 8
    size = len(sealed.encapsulation)
    with pytest.raises(SealError):
        open_request(Sealed(bytes(raw[:size]), bytes(raw[size:])), KEY, BINDING)


def test_the_ciphertext_of_one_request_under_the_secret_of_another_is_refused() -> None:
    one, _, _ = exchange()
    two, _, _ = exchange()
    with pytest.raises(SealError):
        open_request(Sealed(one.encapsulation, two.ciphertext), KEY, BINDING)


@given(st.binary(max_size=200), st.binary(max_size=200))
def test_random_bytes_open_nothing(encapsulation: bytes, ciphertext: bytes) -> None:
    with pytest.raises(SealError):
        open_request(Sealed(encapsulation, ciphertext), KEY, BINDING)
