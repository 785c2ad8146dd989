"""Whoever watches the line: forwards TCP between a client and a node, and notes when how many bytes went which way. Nothing else.

It sees where each message ends, as the lengths of TLS records show it: here by the length before each HTTP/2 frame (RFC 9113, 4.1).
"""

from __future__ import annotations

import selectors
import socket
import threading
import time
from dataclasses import dataclass

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEADER_BYTES = 9


@dataclass(frozen=True, slots=True)
class Message:
    """`bytes_` at `at_s`, from the client (`up`) or from the node."""

    at_s: float
    up: bool
    bytes_: int


class _Lengths:
    """The sizes of the messages in a stream of bytes. Sees nothing else of them."""

    def __init__(self, up: bool) -> None:
        self.up = up
        self._skip = len(PREFACE) if up else 0
        self._header = bytearray()

    def of(self, data: bytes) -> list[int]:
        """The sizes of those that end in `data`."""
        ended, at = [], 0
        while at < len(data):
            if self._skip:
                step = min(self._skip, len(data) - at)
                self._skip, at = self._skip - step, at + step
                if not self._skip and self._header:
                    ended.append(self._end())
                continue
            step = min(HEADER_BYTES - len(self._header), len(data) - at)
            self._header += data[at : at + step]
            at += step
            if len(self._header) == HEADER_BYTES:
                self._skip = int.from_bytes(self._header[:3], "big")
                if not self._skip:
                    ended.append(self._end())
        return ended

    def _end(self) -> int:
        size = HEADER_BYTES + int.from_bytes(self._header[:3], "big")
        self._header.clear()
        return size


Ends = dict[socket.socket, tuple[socket.socket, _Lengths]]


class Observer:
    """Stands before the node at `address` (host:port); a client dials `self.address` instead. One thread forwards everything."""

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        self._node = (host, int(port))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._seen: list[Message] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._forward, daemon=True)

    def __enter__(self) -> Observer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self._listener.close()

    def take(self) -> list[Message]:
        """What was seen since the last time."""
        seen, self._seen = self._seen, []
        return seen

    def _forward(self) -> None:
        ends: Ends = {}
        with selectors.DefaultSelector() as selector:
            selector.register(self._listener, selectors.EVENT_READ)
            while not self._ended.is_set():
                for key, _ in selector.select(0.2):
                    source = key.fileobj
                    assert isinstance(source, socket.socket)
                    if source is self._listener:
                        client, node = self._listener.accept()[0], socket.create_connection(self._node)
                        for end, other, up in ((client, node, True), (node, client, False)):
                            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                            ends[end] = (other, _Lengths(up))
                            selector.register(end, selectors.EVENT_READ)
                    elif source in ends:
                        self._pass(source, ends, selector)
        for end in ends:
            end.close()

    def _pass(self, source: socket.socket, ends: Ends, selector: selectors.BaseSelector) -> None:
        other, lengths = ends[source]
        data = source.recv(1 << 16)
        if data:
            now = time.perf_counter()
            other.sendall(data)
            self._seen += [Message(now, lengths.up, size) for size in lengths.of(data)]
            return
        for end in (source, other):
            selector.unregister(end)
            del ends[end]
            end.close()
