"""What the issuer, the log and the witness are as ASGI applications: a whole request in, a whole answer out, constant errors.

Each is answered in one of a bounded number of threads. Knows nothing of what is asked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass, field

from leanto_cloud import redaction
from leanto_cloud.http_server import asgi
from leanto_cloud.http_server.asgi import Gone, Receive, Rejected, Scope, Send

MAX_BODY_BYTES = 64 << 10
PART_BYTES = 64 << 10  # a reader has the server's time for each

Answer = tuple[int, str, bytes]  # status, content type, body


@dataclass(frozen=True, slots=True)
class Request:
    """`path` as it came, with its query; `authorization` and `content_type` are the headers of those names, or empty."""

    method: str
    path: str
    body: bytes = field(default=b"", repr=False)
    authorization: str = field(default="", repr=False)
    content_type: str = ""


Respond = Callable[[Request], Answer]


class Answering:
    """An ASGI application that answers by `respond`, which may block."""

    def __init__(self, respond: Respond) -> None:
        self._respond = respond

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        try:
            status, kind, content = await self._answer(await _request(scope, receive))
        except Gone:
            return
        except Rejected as error:
            await asgi.reject(send, error)
            return
        await asgi.start(send, status, kind, len(content))
        for at in range(0, len(content), PART_BYTES):
            await asgi.part(send, content[at : at + PART_BYTES], more=True)
        await asgi.part(send, b"", more=False)

    async def _answer(self, request: Request) -> Answer:
        try:
            return await asyncio.to_thread(self._respond, request)
        except Exception as error:  # whatever it was, the caller learns nothing of it
            redaction.log.error("an answer failed: %s", redaction.place(error))
            return 500, "text/plain", b""


async def _request(scope: Scope, receive: Receive) -> Request:
    headers: dict[bytes, bytes] = dict(scope["headers"])
    if b"transfer-encoding" in headers:
        raise Rejected(411, ends_connection=True)
    asgi.declared_bytes(scope, MAX_BODY_BYTES)
    query = b"?" + scope["query_string"] if scope["query_string"] else b""
    async with aclosing(asgi.body(receive, MAX_BODY_BYTES)) as parts:
        content = b"".join([part async for part in parts])
    named = (headers.get(name, b"").decode("latin-1") for name in (b"authorization", b"content-type"))
    return Request(scope["method"], (scope["raw_path"] + query).decode("latin-1"), content, *named)
