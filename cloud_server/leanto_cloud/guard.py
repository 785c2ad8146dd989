"""The outermost interceptor: whatever happens inside, a caller reads one of the constant status texts and nothing else.

gRPC would otherwise put an exception's message into the status, and its traceback into the log. Knows nothing of the services
it guards.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
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


class Guard(aio.ServerInterceptor):
    """Wraps every handler of the server."""

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
        read, write = _readable(handler.request_deserializer), handler.response_serializer
        if handler.response_streaming:
            return grpc.unary_stream_rpc_method_handler(_guard_stream(handler.unary_stream), read, write)
        return grpc.unary_unary_rpc_method_handler(_guard_unary(handler.unary_unary), read, write)


def _readable(deserialize: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    def read(raw: bytes) -> Any:
        try:
            return deserialize(raw)
        except DecodeError:
            return _UNREADABLE

    return read


def _guard_unary(inner: Callable[[Any, Context], Awaitable[Any]]) -> Callable[[Any, Context], Awaitable[Any]]:
    async def guarded(request: Any, context: Context) -> Any:
        refusal = Refusal.MALFORMED
        if request is not _UNREADABLE:
            try:
                return await inner(request, context)
            except Exception as error:
                refusal = _refusal(error)
        return await _end(context, refusal)

    return guarded


def _guard_stream(inner: Callable[[Any, Context], Any]) -> Callable[[Any, Context], AsyncIterator[Any]]:
    async def guarded(request: Any, context: Context) -> AsyncIterator[Any]:
        refusal: Refusal | None = Refusal.MALFORMED
        if request is not _UNREADABLE:
            refusal = None
            try:
                async with aclosing(inner(request, context)) as responses:
                    async for response in responses:
                        yield response
            except Exception as error:
                refusal = _refusal(error)
        if refusal is not None:
            await _end(context, refusal)

    return guarded


def _refusal(error: Exception) -> Refusal:
    if isinstance(error, Refused):
        return error.refusal
    if isinstance(error, TimeoutError):
        return Refusal.TOO_SLOW
    log.error("a call failed: %s", place(error))
    return Refusal.INTERNAL


async def _end(context: Context, refusal: Refusal) -> None:
    await context.abort(grpc.StatusCode[refusal.code], refusal.text)
