"""Binary HTTP messages (RFC 9292), as far as a request of known length and an answer of unknown length go.

Informational responses are refused. Knows nothing of what names and values mean.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from leanto_wire.errors import ProtocolError
from leanto_wire.ohttp.varint import Cursor, NeedMore, encode_varint

KNOWN_REQUEST, INDETERMINATE_RESPONSE = 0, 3
MAX_FIELDS_BYTES = 4096
MAX_CONTENT_BYTES = 2 << 20

Fields = tuple[tuple[bytes, bytes], ...]  # names in lower case


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request."""

    method: bytes
    scheme: bytes
    authority: bytes
    path: bytes
    fields: Fields = ()
    content: bytes = field(default=b"", repr=False)

    def encode(self) -> bytes:
        """As a message of known length, without trailers."""
        control = b"".join(_vector(part) for part in (self.method, self.scheme, self.authority, self.path))
        return encode_varint(KNOWN_REQUEST) + control + _vector(_encode_fields(self.fields)) + _vector(self.content) + _vector(b"")

    @classmethod
    def parse(cls, raw: bytes) -> Request:
        """Raises ProtocolError for bytes that are none, and for one with trailers."""
        cursor = Cursor(raw)
        try:
            if cursor.varint() != KNOWN_REQUEST:
                raise ProtocolError("not a binary HTTP request of known length")
            method, scheme, authority, path = (cursor.vector(MAX_FIELDS_BYTES) for _ in range(4))
            fields, content, trailers = (_rest(cursor, limit) for limit in (MAX_FIELDS_BYTES, MAX_CONTENT_BYTES, 0))
            listed = _parse_fields(fields)
        except NeedMore:
            raise ProtocolError("a binary HTTP request ends too early") from None
        if any(raw[cursor.at :]) or trailers:
            raise ProtocolError("a binary HTTP request is followed by something else")
        return cls(method, scheme, authority, path, listed, content)


def head(status: int, fields: Fields = ()) -> bytes:
    """The beginning of an answer; `content` and `end` follow."""
    return encode_varint(INDETERMINATE_RESPONSE) + encode_varint(status) + _encode_fields(fields) + encode_varint(0)


def content(part: bytes) -> bytes:
    """A part of the content, which is not empty."""
    return _vector(part)


def end(trailers: Fields = ()) -> bytes:
    """The end of the content, and the trailers."""
    return encode_varint(0) + _encode_fields(trailers) + encode_varint(0)


@dataclass(slots=True)
class ResponseReader:
    """Reads an answer as it comes: `status` and `fields` once they are there, `trailers` once it has ended."""

    status: int | None = None
    fields: Fields = ()
    trailers: Fields | None = None
    _buffer: bytearray = field(default_factory=bytearray, repr=False)
    _in_trailers: bool = False

    def feed(self, data: bytes) -> bytes:
        """The content that is there now. Raises ProtocolError."""
        self._buffer += data
        parts = []
        step: Callable[[Cursor], bytes | None] | None
        while (step := self._step()) is not None:
            cursor = Cursor(self._buffer)
            try:
                part = step(cursor)
            except NeedMore:
                if len(self._buffer) > MAX_CONTENT_BYTES + MAX_FIELDS_BYTES:
                    raise ProtocolError("a part of a binary HTTP response is over the limit") from None
                break
            del self._buffer[: cursor.at]
            parts.append(part or b"")
        if self.trailers is not None and any(self._buffer):
            raise ProtocolError("a binary HTTP response is followed by something else")
        return b"".join(parts)

    def _step(self) -> Callable[[Cursor], bytes | None] | None:
        if self.status is None:
            return self._head
        if self.trailers is not None:
            return None
        return self._end if self._in_trailers else self._content

    def _head(self, cursor: Cursor) -> None:
        if cursor.varint() != INDETERMINATE_RESPONSE:
            raise ProtocolError("not a binary HTTP response of unknown length")
        status = cursor.varint()
        if not 200 <= status < 600:
            raise ProtocolError("a binary HTTP response has no final status")
        self.fields = _terminated_fields(cursor)
        self.status = status

    def _content(self, cursor: Cursor) -> bytes:
        part = cursor.vector(MAX_CONTENT_BYTES)
        self._in_trailers = not part
        return part

    def _end(self, cursor: Cursor) -> None:
        self.trailers = _terminated_fields(cursor)


def _vector(raw: bytes) -> bytes:
    return encode_varint(len(raw)) + raw


def _rest(cursor: Cursor, limit: int) -> bytes:
    """A part that may be left out at the end of a message (section 3.8)."""
    return cursor.vector(limit) if cursor.left else b""


def _encode_fields(fields: Fields) -> bytes:
    return b"".join(_vector(name) + _vector(value) for name, value in fields)


def _parse_fields(raw: bytes) -> Fields:
    cursor, found = Cursor(raw), []
    while cursor.left:
        found.append((_name(cursor), cursor.vector(MAX_FIELDS_BYTES)))
    return tuple(found)


def _terminated_fields(cursor: Cursor) -> Fields:
    found: list[tuple[bytes, bytes]] = []
    began = cursor.at
    while name := cursor.vector(MAX_FIELDS_BYTES):
        found.append((_checked(name), cursor.vector(MAX_FIELDS_BYTES)))
        if cursor.at - began > MAX_FIELDS_BYTES:
            raise ProtocolError("the fields of a binary HTTP message are over the limit")
    return tuple(found)


def _name(cursor: Cursor) -> bytes:
    return _checked(cursor.vector(MAX_FIELDS_BYTES))


def _checked(name: bytes) -> bytes:
    if not name or name != name.lower():
        raise ProtocolError("a field of a binary HTTP message has no name in lower case")
    return name
