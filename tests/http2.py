"""HTTP/2 frames by hand (RFC 9113), for clients that no library would let one be. Header blocks are literals (RFC 7541), never indexed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
END_STREAM, ACK, END_HEADERS = 1, 1, 4
CANCEL, ENHANCE_YOUR_CALM = 8, 11
INITIAL_WINDOW_SIZE = 4
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


@dataclass(frozen=True)
class Frame:
    kind: int
    flags: int
    stream: int
    payload: bytes

    @property
    def error(self) -> int:
        """The error code of a GOAWAY or RST_STREAM."""
        return int.from_bytes(self.payload[4:8] if self.kind == GOAWAY else self.payload[:4], "big")


def frame(kind: int, payload: bytes = b"", *, flags: int = 0, stream: int = 0) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def literal(name: str, value: str | bytes) -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    return b"\x00" + _length(len(name)) + name.encode() + _length(len(raw)) + raw


def _length(value: int) -> bytes:
    """An integer with a prefix of 7 bits."""
    if value < 127:
        return bytes([value])
    coded, value = [127], value - 127
    while value >= 128:
        coded.append(value % 128 + 128)
        value //= 128
    return bytes([*coded, value])


def call_headers(path: str | bytes) -> bytes:
    fields: dict[str, str | bytes] = {
        ":method": "POST",
        ":scheme": "http",
        ":path": path,
        ":authority": "node",
        "te": "trailers",
        "content-type": "application/grpc",
    }
    return b"".join(literal(name, value) for name, value in fields.items())


def message(raw: bytes) -> bytes:
    """gRPC's framing of one message."""
    return b"\x00" + len(raw).to_bytes(4, "big") + raw


class Connection:
    """One connection, after the preface."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def send(self, *frames: bytes) -> None:
        with suppress(ConnectionError):  # a node that has had enough hangs up in the middle
            self._writer.write(b"".join(frames))
            await self._writer.drain()

    async def call(self, path: str, raw: bytes | None, *, stream: int = 1) -> None:
        """The headers of a call, and its message unless that is None: then the request never ends."""
        await self.send(frame(HEADERS, call_headers(path), flags=END_HEADERS, stream=stream))
        if raw is not None:
            await self.send(frame(DATA, message(raw), flags=END_STREAM, stream=stream))

    async def frames(self) -> AsyncIterator[Frame]:
        """What comes, until the other side hangs up."""
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await self._reader.readexactly(9)
                payload = await self._reader.readexactly(int.from_bytes(head[:3], "big"))
                yield Frame(head[3], head[4], int.from_bytes(head[5:], "big"), payload)

    async def wait_for(self, kind: int, timeout_s: float = 20.0) -> Frame | None:
        """The next frame of that kind; None if the other side hangs up first."""
        async with asyncio.timeout(timeout_s):
            async for come in self.frames():
                if come.kind == kind and not (kind == SETTINGS and come.flags & ACK):
                    return come
        return None


@asynccontextmanager
async def connected(address: str, *, window: int = 65_535) -> AsyncIterator[Connection]:
    """A connection to `address` that gives each stream `window` bytes to begin with."""
    host, port = address.rsplit(":", 1)
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(PREFACE + frame(SETTINGS, INITIAL_WINDOW_SIZE.to_bytes(2, "big") + window.to_bytes(4, "big")))
        yield Connection(reader, writer)
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()
