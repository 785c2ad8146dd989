"""Length padding: sizes tell only buckets, and nothing hides in the padding."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leanto_wire.errors import SealError
from leanto_wire.frame import HEADER_BYTES, pad, unpad

BLOCK = 128


@given(st.binary(max_size=700))
def test_a_frame_gives_its_message_back(message: bytes) -> None:
    frame = pad(message, BLOCK)
    assert unpad(frame, BLOCK) == message
    assert len(frame) % BLOCK == 0
    assert len(frame) < len(message) + HEADER_BYTES + BLOCK


@given(st.integers(0, BLOCK - HEADER_BYTES))
def test_every_short_message_makes_a_frame_of_one_size(length: int) -> None:
    assert len(pad(bytes(length), BLOCK)) == BLOCK


@given(st.binary(max_size=300))
def test_bytes_that_are_no_frame_are_refused(frame: bytes) -> None:
    try:
        message = unpad(frame, BLOCK)
    except SealError:
        return
    assert pad(message, BLOCK) == frame


def test_a_byte_hidden_in_the_padding_is_refused() -> None:
    frame = pad(b"message", BLOCK)
    with pytest.raises(SealError):
        unpad(frame[:-1] + b"\x01", BLOCK)


def test_a_frame_padded_further_than_it_must_is_refused() -> None:
    with pytest.raises(SealError):
        unpad(pad(b"message", BLOCK) + bytes(BLOCK), BLOCK)
