"""A gRPC server that takes calls of its own methods alone.

grpcio (1.85) decodes the name of any other method as UTF-8 in the loop that serves everybody: one call with a name that is not ends the
whole server. Its call is let go of instead, before the name is looked at. Leans on two names of grpcio's inside, which a test watches.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, cast

from grpc import aio
from grpc._cython import cygrpc  # type: ignore[attr-defined, unused-ignore]
from grpc.aio import _server  # type: ignore[attr-defined, unused-ignore]


class _KnownMethods(cygrpc.AioServer):  # type: ignore[misc]
    def _make_request_call_future(self, method: bytes | None) -> Any:
        """The next call of `method`; None is any method that nobody registered."""
        return super()._make_request_call_future(method) if method is not None else asyncio.ensure_future(self._let_go())

    async def _let_go(self) -> None:
        while True:  # until gRPC shuts down, and raises that
            await self._request_call()  # dropped at once, which cancels it


class _Server(_server.Server):  # type: ignore[misc, unused-ignore]
    def __init__(self, interceptors: Sequence[aio.ServerInterceptor], options: Sequence[tuple[str, int]]) -> None:
        self._loop = asyncio.get_running_loop()
        self._server = _KnownMethods(self._loop, None, (), tuple(interceptors), tuple(options), None)


def server(interceptors: Sequence[aio.ServerInterceptor], options: Sequence[tuple[str, int]]) -> aio.Server:
    """Like `grpc.aio.server`."""
    made: Any = _Server(interceptors, options)
    return cast("aio.Server", made)
