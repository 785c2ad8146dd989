"""Whole messages over frames of one size: the contents of the frames, put together, are messages with their lengths before them.

record = length (4 bytes, big-endian) ‖ message. A frame that holds nothing is a dummy. Knows nothing of seals or clocks.
"""

from __future__ import annotations

from leanto_wire.errors import SealError
from leanto_wire.frame import CONSTANT_BYTES

LENGTH_BYTES = 4
MAX_RECORD_BYTES = 1 << 20


class RecordWriter:
    """Cuts messages into what each frame carries."""

    def __init__(self) -> None:
        self._waiting = bytearray()

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, message: bytes) -> None:
        """Queue one message. Raises SealError beyond MAX_RECORD_BYTES."""
        if len(message) > MAX_RECORD_BYTES:
            raise SealError(f"a message of {len(message)} bytes is over the limit of {MAX_RECORD_BYTES}")
        self._waiting += len(message).to_bytes(LENGTH_BYTES, "big") + message

    def take(self) -> bytes:
        """What the next frame carries; nothing makes a dummy."""
        part = bytes(self._waiting[:CONSTANT_BYTES])
        del self._waiting[:CONSTANT_BYTES]
        return part


class RecordReader:
    """Puts messages together again."""

    def __init__(self) -> None:
        self._read = bytearray()

    def feed(self, part: bytes) -> list[bytes]:
        """The messages that end in `part`, what one frame carried. Raises SealError for what a RecordWriter does not write."""
        self._read += part
        messages = []
        while len(self._read) >= LENGTH_BYTES:
            length = int.from_bytes(self._read[:LENGTH_BYTES], "big")
            if length > MAX_RECORD_BYTES:
                raise SealError(f"a record is over the limit of {MAX_RECORD_BYTES} bytes")
            end = LENGTH_BYTES + length
            if len(self._read) < end:
                break
            messages.append(bytes(self._read[LENGTH_BYTES:end]))
            del self._read[:end]
        if self._read and len(part) < CONSTANT_BYTES:
            raise SealError("a record breaks off in a frame that had room for more of it")
        return messages

    def close(self) -> None:
        """Say that no frame follows. Raises SealError in the middle of a record."""
        if self._read:
            raise SealError("the last frame ends in the middle of a record")
