"""What relay and gateway share as ASGI applications: bounded bodies, constant answers, and work that ends with its caller.

Knows nothing of what is carried.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from typing import Any

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

MAX_BODY_BYTES = (1 << 20) + (64 << 10)  # of a sealed request, with all that is around it
MAX_HEADER_BYTES = 16 << 10
BODY_S = 30.0  # for a request to come whole


class Rejected(Exception):
    """The request ends with this HTTP status, and an empty body."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class Gone(Exception):
    """The caller has left."""


def check(scope: Scope, content_type: str) -> int | None:
    """The declared length of a request that may pass. Raises Rejected."""
    if sum(len(name) + len(value) for name, value in scope["headers"]) > MAX_HEADER_BYTES:
        raise Rejected(431)
    if scope["path"] != "/":
        raise Rejected(404)
    if scope["method"] != "POST":
        raise Rejected(405)
    headers: dict[bytes, bytes] = dict(scope["headers"])
    if headers.get(b"content-type") != content_type.encode():
        raise Rejected(415)
    declared = headers.get(b"content-length")
    if declared is not None and int(declared) > MAX_BODY_BYTES:
        raise Rejected(413)
    return None if declared is None else int(declared)


async def body(receive: Receive) -> AsyncGenerator[bytes]:
    """The request's body as it comes. Raises Rejected beyond the limits, Gone."""
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
        if total > MAX_BODY_BYTES:
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


async def start(send: Send, status: int, content_type: str | None = None, length: bytes | None = None) -> None:
    """Send the head of an answer: these headers and no other."""
    headers = [(b"content-type", content_type.encode())] if content_type else []
    if length is not None:
        headers.append((b"content-length", length))
    await send({"type": "http.response.start", "status": status, "headers": headers})


async def part(send: Send, data: bytes, *, more: bool) -> None:
    """Send a part of its body."""
    await send({"type": "http.response.body", "body": data, "more_body": more})


async def reject(send: Send, status: int) -> None:
    """A constant answer."""
    await start(send, status, length=b"0")
    await part(send, b"", more=False)


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
