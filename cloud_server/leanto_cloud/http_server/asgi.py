"""What our ASGI applications share: bounded bodies, constant answers, and work that ends with its caller.

Knows nothing of what is carried.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from typing import Any

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

MAX_HEADER_BYTES = 16 << 10
BODY_S = 30.0  # for a request to come whole


class Rejected(Exception):
    """The request ends with this HTTP status, and an empty body; the connection too, where nobody can say where the request ends."""

    def __init__(self, status: int, *, ends_connection: bool = False) -> None:
        super().__init__(status)
        self.status = status
        self.ends_connection = ends_connection


class Gone(Exception):
    """The caller has left."""


def declared_bytes(scope: Scope, most: int) -> int | None:
    """The length that a request declares, None if it is chunked. Raises Rejected for one of more than `most`, or of two lengths."""
    if sum(len(name) + len(value) for name, value in scope["headers"]) > MAX_HEADER_BYTES:
        raise Rejected(431)
    headers: dict[bytes, bytes] = dict(scope["headers"])
    declared = headers.get(b"content-length")
    if declared is None:
        return None if b"transfer-encoding" in headers else 0
    if b"transfer-encoding" in headers:
        raise Rejected(400, ends_connection=True)
    if int(declared) > most:  # h11 has seen to it that it has at most 20 digits
        raise Rejected(413)
    return int(declared)


async def body(receive: Receive, most: int) -> AsyncGenerator[bytes]:
    """The request's body as it comes. Raises Rejected beyond `most` bytes or BODY_S, Gone."""
    total, more = 0, True
    until = asyncio.get_running_loop().time() + BODY_S
    while more:
        try:
            async with asyncio.timeout_at(until):
                event = await receive()
        except TimeoutError:
            raise Rejected(408) from None
        if event["type"] == "http.disconnect":
            raise Gone
        total += len(event.get("body", b""))
        if total > most:
            raise Rejected(413)
        yield event.get("body", b"")
        more = event.get("more_body", False)


async def while_connected(receive: Receive, work: Coroutine[Any, Any, None]) -> None:
    """Do `work` to its end, or until the caller leaves."""
    working, leaving = asyncio.ensure_future(work), asyncio.ensure_future(_left(receive))
    try:
        await asyncio.wait([working, leaving], return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            working.result()
    finally:
        for task in (working, leaving):
            task.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)


async def start(
    send: Send, status: int, content_type: str | None = None, length: int | None = None, *, ends_connection: bool = False
) -> None:
    """Send the head of an answer: these headers and no other."""
    headers = [(b"content-type", content_type.encode())] if content_type else []
    if length is not None:
        headers.append((b"content-length", str(length).encode()))
    if ends_connection:
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": status, "headers": headers})


async def part(send: Send, data: bytes, *, more: bool) -> None:
    """Send a part of its body."""
    await send({"type": "http.response.body", "body": data, "more_body": more})
    await asyncio.sleep(0)  # a turn for others, and for the news that the caller has left: `send` itself need not wait


async def reject(send: Send, error: Rejected) -> None:
    """A constant answer."""
    await start(send, error.status, length=0, ends_connection=error.ends_connection)
    await part(send, b"", more=False)


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
