"""gRPC calls inside OHTTP: each message behind a flag and its length, the status in the trailers, as on gRPC's own wire.

Knows nothing of what the messages hold.
"""

from __future__ import annotations

from leanto_wire.errors import ProtocolError
from leanto_wire.ohttp.bhttp import Fields, Request
from leanto_wire.seal import MAX_MESSAGE_BYTES

GENERATE = b"/leanto.v1.PrivateCompute/Generate"
EVIDENCE = b"/leanto.v1.PrivateCompute/GetEvidence"
PREFIX_BYTES = 5
MAX_FRAME_BYTES = MAX_MESSAGE_BYTES + 8192  # what a node takes and sends
_TYPE = (b"content-type", b"application/grpc+proto")
_STATUS = b"grpc-status"


def frame(message: bytes) -> bytes:
    """`message`, not compressed, behind its prefix."""
    return b"\x00" + len(message).to_bytes(4, "big") + message


class FrameReader:
    """Takes messages out of bytes as they come."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    @property
    def empty(self) -> bool:
        """Whether nothing is left of a message that has not come whole."""
        return not self._buffer

    def feed(self, data: bytes) -> list[bytes]:
        """The messages that are whole now. Raises ProtocolError for one that is compressed or over the limit."""
        self._buffer += data
        messages = []
        while len(self._buffer) >= PREFIX_BYTES:
            size = int.from_bytes(self._buffer[1:PREFIX_BYTES], "big")
            if self._buffer[0] or size > MAX_FRAME_BYTES:
                raise ProtocolError("a message is compressed, or over the limit")
            if len(self._buffer) < PREFIX_BYTES + size:
                break
            messages.append(bytes(self._buffer[PREFIX_BYTES : PREFIX_BYTES + size]))
            del self._buffer[: PREFIX_BYTES + size]
        return messages


def call(path: bytes, authority: str, message: bytes) -> Request:
    """The request of a call."""
    return Request(b"POST", b"https", authority.encode(), path, (_TYPE,), frame(message))


def called(request: Request) -> tuple[bytes, bytes]:
    """(path, message) of a call. Raises ProtocolError for a request that is none."""
    if request.method != b"POST" or request.path not in (GENERATE, EVIDENCE) or request.fields != (_TYPE,):
        raise ProtocolError("not a call of leanto.v1")
    frames = FrameReader()
    messages = frames.feed(request.content)
    if len(messages) != 1 or not frames.empty:
        raise ProtocolError("a call has one message")
    return request.path, messages[0]


def status_fields(code: int) -> Fields:
    """The trailers that tell a gRPC status, and nothing else of it."""
    return ((_STATUS, str(code).encode()),)


def status_of(trailers: Fields) -> int:
    """Raises ProtocolError unless they tell one."""
    value = dict(trailers).get(_STATUS, b"")
    if not value.isdigit() or len(value) > 2:
        raise ProtocolError("the answer has no status")
    return int(value)
