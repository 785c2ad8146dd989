"""Variable-length integers (RFC 9000, section 16), and a cursor over bytes that may not all have come yet."""

from __future__ import annotations

from leanto_wire.errors import ProtocolError


class NeedMore(Exception):
    """The bytes end too early; try again when there are more."""


def encode_varint(value: int) -> bytes:
    """In as few bytes as it takes. Raises ValueError beyond 62 bits."""
    for prefix, size in enumerate((1, 2, 4, 8)):
        if value < 1 << (8 * size - 2):
            return (prefix << (8 * size - 2) | value).to_bytes(size, "big")
    raise ValueError(f"{value} does not fit in 62 bits")


class Cursor:
    """Reads from `at` on."""

    def __init__(self, raw: bytes | bytearray) -> None:
        self._raw = raw
        self.at = 0

    @property
    def left(self) -> int:
        """Bytes not read yet."""
        return len(self._raw) - self.at

    def varint(self) -> int:
        """The next integer. Raises NeedMore."""
        if not self.left:
            raise NeedMore
        size = 1 << (self._raw[self.at] >> 6)
        value = int.from_bytes(self.take(size), "big")
        return value & ((1 << (8 * size - 2)) - 1)

    def take(self, size: int) -> bytes:
        """The next `size` bytes. Raises NeedMore."""
        if size > self.left:
            raise NeedMore
        self.at += size
        return bytes(self._raw[self.at - size : self.at])

    def vector(self, limit: int) -> bytes:
        """Bytes behind their length. Raises ProtocolError beyond `limit`, before they have come; NeedMore."""
        size = self.varint()
        if size > limit:
            raise ProtocolError(f"a part of {size} bytes is over the limit of {limit}")
        return self.take(size)
