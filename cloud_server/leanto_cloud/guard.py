"""The outermost interceptor: whatever happens inside, a caller reads one of the constant status texts and nothing else.

gRPC would otherwise put an exception's message into the status, and its traceback into the log, and would wait for a slow sender
or a slow reader for ever. Knows nothing of the services it guards.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing, suppress
from typing import Any, Final, TypeVar

import grpc
from google.protobuf.message import DecodeError
from grpc import aio

from leanto_cloud.errors import Refused
from leanto_cloud.redaction import log, place
from leanto_wire.status import Refusal

Q = TypeVar("Q")
R = TypeVar("R")

_UNREADABLE: Final = object()

Context = aio.ServicerContext[Any, Any]
Inner = Callable[[Any, Context], AsyncGenerator[Any] | Awaitable[None]]

RECEIVE_S = 10.0
STALL_S = 30.0
MOST = 512


class Guard(aio.ServerInterceptor):
    """Wraps every handler of the server, and serves `most` calls at once.

    A request has `receive_s` to come whole; each response, and the status, has `stall_s` to be taken. gRPC's own limit would go on counting
    calls whose caller takes nothing, as long as the connection lives.
    """

    def __init__(self, *, most: int = MOST, receive_s: float = RECEIVE_S, stall_s: float = STALL_S) -> None:
        self._most = most
        self._receive_s = receive_s
        self._stall_s = stall_s
        self._present = 0

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Q, R] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Q, R] | None:
        """The handler, guarded. An unknown method is gRPC's own constant UNIMPLEMENTED."""
        handler: Any = await continuation(handler_call_details)
        if handler is None or handler.request_streaming:  # reflection alone streams requests, and sees no sealed byte
            unguarded: grpc.RpcMethodHandler[Q, R] | None = handler
            return unguarded
        responses = handler.unary_stream if handler.response_streaming else _one_response(handler.unary_unary)
        read, write = _readable(handler.request_deserializer), handler.response_serializer
        return grpc.stream_stream_rpc_method_handler(self._guarded(responses), read, write)  # so that the reading is ours to time

    def _guarded(self, inner: Inner) -> Callable[[Any, Context], Awaitable[None]]:
        async def guarded(_: Any, context: Context) -> None:
            self._present += 1
            try:
                refusal = await self._refusal_of(inner, context)
                if refusal is not None:
                    await self._refuse(context, refusal)
            finally:
                self._present -= 1

        return guarded

    async def _refusal_of(self, inner: Inner, context: Context) -> Refusal | None:
        """Serve, and say what there is to refuse. gRPC keeps what is raised to it, so nothing of the request may hang on that."""
        if self._present > self._most:
            return Refusal.BUSY
        try:
            await self._serve(inner, context)
        except aio.AbortError:
            raise
        except Exception as error:
            return _refusal(error)
        return None

    async def _serve(self, inner: Inner, context: Context) -> None:
        work = inner(await self._receive(context), context)
        if isinstance(work, Awaitable):  # it writes its responses itself, as health's Watch does
            await work
            return
        async with aclosing(work) as responses:
            async for response in responses:
                await self._send(response, context)

    async def _receive(self, context: Context) -> Any:
        async with asyncio.timeout(self._receive_s):
            request = await context.read()
        if request is _UNREADABLE or request is aio.EOF:
            raise Refused(Refusal.MALFORMED)
        return request

    async def _refuse(self, context: Context, refusal: Refusal) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(self._stall_s):
                await context.abort(grpc.StatusCode[refusal.code], refusal.text)
        raise asyncio.CancelledError  # whoever takes not even that is left alone

    async def _send(self, response: Any, context: Context) -> None:
        async with asyncio.timeout(self._stall_s):
            await context.write(response)


def _one_response(inner: Callable[[Any, Context], Awaitable[Any]]) -> Inner:
    async def responses(request: Any, context: Context) -> AsyncGenerator[Any]:
        yield await inner(request, context)

    return responses


def _readable(deserialize: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    def read(raw: bytes) -> Any:
        try:
            return deserialize(raw)
        except DecodeError:
            return _UNREADABLE

    return read


def _refusal(error: Exception) -> Refusal:
    if isinstance(error, Refused):
        return error.refusal
    if isinstance(error, TimeoutError):
        return Refusal.TOO_SLOW
    log.error("a call failed: %s", place(error))
    return Refusal.INTERNAL
