"""Length padding: a message in a frame whose size tells only a bucket. Knows nothing of keys.

frame = length of the message (4 bytes, big-endian) ‖ message ‖ zeros, up to a multiple of the block.
"""

from __future__ import annotations

from leanto_wire.errors import SealError

HEADER_BYTES = 4


def pad(message: bytes, block_bytes: int) -> bytes:
    """The frame of `message`: a multiple of `block_bytes` long."""
    length = HEADER_BYTES + len(message)
    return len(message).to_bytes(HEADER_BYTES, "big") + message + bytes(-length % block_bytes)


def unpad(frame: bytes, block_bytes: int) -> bytes:
    """The message of `frame`. Raises SealError unless the frame is exactly what `pad` makes."""
    message = frame[HEADER_BYTES : HEADER_BYTES + int.from_bytes(frame[:HEADER_BYTES], "big")]
    if frame != pad(message, block_bytes):
        raise SealError("the padding of a sealed frame is not as the protocol says")
    return message
