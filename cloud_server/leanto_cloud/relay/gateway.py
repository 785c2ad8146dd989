"""The gateway: opens a relay's OHTTP, makes the call inside it of the node, and seals the node's chunks as they come.

It sees still sealed requests and the relay's address. Knows nothing of the node's keys or of tokens.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from grpc import StatusCode, aio

from leanto_cloud.http_server import asgi
from leanto_cloud.http_server.asgi import Gone, Receive, Rejected, Scope, Send
from leanto_cloud.relay.exchange import MAX_BODY_BYTES, check
from leanto_wire.errors import ProtocolError, SealError
from leanto_wire.ohttp import REQUEST_TYPE, RESPONSE_TYPE, bhttp
from leanto_wire.ohttp.calls import GENERATE, called, frame, status_fields
from leanto_wire.ohttp.chunked import RequestOpener, chunks_of
from leanto_wire.ohttp.key_config import GatewayKey

LIMIT_S = 330.0


class Gateway:
    """An ASGI application with one key, in front of one node's channel."""

    def __init__(self, key: GatewayKey, channel: aio.Channel) -> None:
        self._key = key
        self._channel = channel

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One exchange."""
        try:
            check(scope, REQUEST_TYPE)
            opener = RequestOpener(self._key)
            path, message = await self._read(opener, receive)
            await asgi.while_connected(receive, self._answer(opener, path, message, send))
        except Gone:
            return
        except Rejected as error:
            await asgi.reject(send, error)
        except (SealError, ProtocolError):
            await asgi.reject(send, Rejected(400))

    async def _read(self, opener: RequestOpener, receive: Receive) -> tuple[bytes, bytes]:
        opened = bytearray()
        async with aclosing(asgi.body(receive, MAX_BODY_BYTES)) as parts:
            async for part in parts:
                opened += opener.feed(part)
        return called(bhttp.Request.parse(bytes(opened) + opener.close()))

    async def _answer(self, opener: RequestOpener, path: bytes, message: bytes, send: Send) -> None:
        sealer = opener.answer()
        await asgi.start(send, 200, RESPONSE_TYPE)
        await asgi.part(send, sealer.seal(bhttp.head(200), final=False), more=True)
        status = StatusCode.OK
        try:
            async with asyncio.timeout(LIMIT_S), aclosing(self._call(path, message)) as answers:
                async for answer in answers:
                    for part in chunks_of(bhttp.content(frame(answer))):
                        await asgi.part(send, sealer.seal(part, final=False), more=True)
        except aio.AioRpcError as error:
            status = error.code()
        except TimeoutError:
            status = StatusCode.DEADLINE_EXCEEDED
        number: int = status.value[0]
        await asgi.part(send, sealer.seal(bhttp.end(status_fields(number)), final=True), more=False)

    async def _call(self, path: bytes, message: bytes) -> AsyncGenerator[bytes]:
        """The node's messages, as the bytes that they are."""
        method = path.decode()
        if path != GENERATE:
            once: aio.UnaryUnaryMultiCallable[bytes, bytes] = self._channel.unary_unary(method)
            yield await once(message)
            return
        streamed: aio.UnaryStreamMultiCallable[bytes, bytes] = self._channel.unary_stream(method)
        call = streamed(message)
        try:
            async for answer in call:
                yield answer
        finally:
            call.cancel()
