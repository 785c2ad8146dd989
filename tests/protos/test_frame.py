"""Padding: sizes tell only what the level lets them tell, and nothing hides in the padding."""

from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leanto_wire.errors import SealError
from leanto_wire.frame import BLOCK_BYTES, CONSTANT_BYTES, HEADER_BYTES, SIZES, Direction, Padding, frame_bytes, pad, unpad

LEVELS = st.sampled_from(Padding)
DIRECTIONS = st.sampled_from(get_args(Direction))


@given(st.binary(max_size=CONSTANT_BYTES), DIRECTIONS, LEVELS)
def test_a_frame_gives_its_message_and_level_back(message: bytes, direction: Direction, level: Padding) -> None:
    frame = pad(message, direction, level)
    assert unpad(frame, direction) == (message, level)
    assert len(frame) == frame_bytes(len(message), direction, level)


def test_frames_are_written_as_the_document_says() -> None:
    assert pad(b"hi", "response", Padding.BLOCKS) == b"\x00\x00\x00\x02hi" + bytes(122)
    assert pad(b"hi", "response", Padding.BUCKETS) == b"\x01\x00\x00\x02hi" + bytes(250)
    assert pad(b"", "response", Padding.CONSTANT) == b"\x02\x00\x00\x00" + bytes(1020)


@given(st.integers(0, 1 << 20), DIRECTIONS)
def test_a_block_frame_is_the_next_multiple_of_its_block(length: int, direction: Direction) -> None:
    size, block = frame_bytes(length, direction, Padding.BLOCKS), BLOCK_BYTES[direction]
    assert size % block == 0
    assert 0 <= size - HEADER_BYTES - length < block


@given(st.integers(0, (1 << 20) - HEADER_BYTES), DIRECTIONS)
def test_bucket_frames_have_seven_sizes_at_most_and_cost_at_most_four_times_the_message(length: int, direction: Direction) -> None:
    size = frame_bytes(length, direction, Padding.BUCKETS)
    sizes = SIZES[Padding.BUCKETS, direction]
    assert size in sizes
    assert len(sizes) <= 7
    assert size == sizes[0] or size < 4 * (HEADER_BYTES + length)


@given(st.integers(0, CONSTANT_BYTES))
def test_constant_frames_of_an_answer_have_one_size(length: int) -> None:
    assert frame_bytes(length, "response", Padding.CONSTANT) == 1024


@given(st.integers(0, 16_000))
def test_constant_requests_of_usual_prompts_have_one_size(length: int) -> None:
    assert frame_bytes(length, "request", Padding.CONSTANT) == 16384


@pytest.mark.parametrize("key", SIZES, ids=lambda key: f"{key[0].name}-{key[1]}")
def test_a_message_over_the_largest_frame_of_its_level_is_refused(key: tuple[Padding, Direction]) -> None:
    level, direction = key
    fits = SIZES[key][-1] - HEADER_BYTES
    assert frame_bytes(fits, direction, level) == SIZES[key][-1]
    with pytest.raises(SealError, match="shorten it"):
        frame_bytes(fits + 1, direction, level)


@given(st.binary(max_size=300), DIRECTIONS)
def test_bytes_that_are_no_frame_are_refused(frame: bytes, direction: Direction) -> None:
    try:
        message, level = unpad(frame, direction)
    except SealError:
        return
    assert pad(message, direction, level) == frame


@pytest.mark.parametrize("level", Padding)
def test_a_byte_hidden_in_the_padding_is_refused(level: Padding) -> None:
    frame = pad(b"message", "response", level)
    with pytest.raises(SealError):
        unpad(frame[:-1] + b"\x01", "response")


@pytest.mark.parametrize("level", Padding)
def test_a_frame_padded_further_than_it_must_is_refused(level: Padding) -> None:
    frame = pad(b"message", "response", level)
    with pytest.raises(SealError):
        unpad(frame + bytes(3 * len(frame)), "response")


@pytest.mark.parametrize("level", [Padding.BLOCKS, Padding.BUCKETS])
def test_a_frame_that_claims_another_level_than_its_size_is_refused(level: Padding) -> None:
    frame = pad(b"message", "request", level)
    with pytest.raises(SealError):
        unpad(bytes([Padding.CONSTANT]) + frame[1:], "request")


def test_a_level_that_nobody_knows_is_refused() -> None:
    with pytest.raises(SealError):
        unpad(b"\x03" + pad(b"message", "response", Padding.BLOCKS)[1:], "response")


def test_a_frame_that_is_longer_than_the_level_allows_is_refused() -> None:
    with pytest.raises(SealError):
        unpad(bytes([Padding.CONSTANT]) + (5000).to_bytes(3, "big") + bytes(5000), "response")
