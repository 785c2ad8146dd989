"""Padding: a message in a frame whose size tells only what the level of padding lets it tell. Knows nothing of keys or clocks.

frame = level (1 byte) ‖ length of the message (3 bytes, big-endian) ‖ message ‖ zeros, up to the next size of the level.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Literal

from leanto_wire.errors import SealError

Direction = Literal["request", "response"]

HEADER_BYTES = 4
BLOCK_BYTES: dict[Direction, int] = {"request": 256, "response": 128}


class Padding(IntEnum):
    """How much sizes and times may tell. The client asks, the node answers at the same level; the numbers are on the wire."""

    BLOCKS = 0  # multiples of a block, as they are made
    BUCKETS = 1  # a few sizes, each four times the one before, as they are made
    CONSTANT = 2  # answers in frames of one size at a fixed cadence, up to a coarse number of them


_LEVELS = tuple(Padding)

SIZES: dict[tuple[Padding, Direction], tuple[int, ...]] = {
    (Padding.BUCKETS, "request"): tuple(1024 * 4**k for k in range(6)),
    (Padding.BUCKETS, "response"): tuple(256 * 4**k for k in range(7)),
    (Padding.CONSTANT, "request"): tuple(16384 * 4**k for k in range(4)),
    (Padding.CONSTANT, "response"): (1024,),
}
CONSTANT_BYTES = SIZES[Padding.CONSTANT, "response"][0] - HEADER_BYTES  # what one frame of a constant answer carries


def frame_bytes(message_bytes: int, direction: Direction, padding: Padding) -> int:
    """The size of the frame of a message. Raises SealError for one that no frame of the level holds."""
    needed = HEADER_BYTES + message_bytes
    if padding is Padding.BLOCKS:
        return needed + -needed % BLOCK_BYTES[direction]
    for size in SIZES[padding, direction]:
        if needed <= size:
            return size
    raise SealError(f"a {direction} of {message_bytes} bytes is over what padding to {padding.name.lower()} carries; shorten it")


def pad(message: bytes, direction: Direction, padding: Padding) -> bytes:
    """The frame of `message`."""
    length = len(message)
    return ((padding << 24 | length).to_bytes(HEADER_BYTES, "big") + message).ljust(frame_bytes(length, direction, padding), b"\0")


def unpad(frame: bytes, direction: Direction) -> tuple[bytes, Padding]:
    """The message of `frame` and the level it was padded to. Raises SealError unless the frame is exactly what `pad` makes."""
    header = int.from_bytes(frame[:HEADER_BYTES], "big")
    level, length = header >> 24, header & 0xFFFFFF
    end, size = HEADER_BYTES + length, len(frame)
    if (
        size < HEADER_BYTES
        or level >= len(_LEVELS)
        or size != frame_bytes(length, direction, _LEVELS[level])
        or frame.count(0, end) != size - end
    ):
        raise SealError("the padding of a sealed frame is not as the protocol says")
    return frame[HEADER_BYTES:end], _LEVELS[level]
