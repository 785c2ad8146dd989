"""A gRPC server that takes calls of its own methods alone.

grpcio (1.85) decodes the name of any other method as UTF-8 in the loop that serves everybody: one call with a name that is not ends the
whole server. Its call is let go of instead, before the name is looked at. Leans on three names of grpcio's inside, which a test watches.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from grpc import aio
from grpc._cython import cygrpc as _untyped  # type: ignore[attr-defined, unused-ignore]

cygrpc: Any = _untyped


class _KnownMethods(cygrpc.AioServer):  # type: ignore[misc]
    def _make_request_call_future(self, method: bytes | None) -> Any:
        """The next call of `method`; None is any method that nobody registered."""
        return super()._make_request_call_future(method) if method is not None else asyncio.ensure_future(self._let_go())

    async def _let_go(self) -> None:
        while True:  # until gRPC shuts down, and raises that
            await self._request_call()  # dropped at once, which cancels it


def server(interceptors: Sequence[aio.ServerInterceptor], options: Sequence[tuple[str, int]]) -> aio.Server:
    """What `grpc.aio.server` makes, around the class above."""
    theirs, cygrpc.AioServer = cygrpc.AioServer, _KnownMethods
    try:
        return aio.server(interceptors=interceptors, options=options)
    finally:
        cygrpc.AioServer = theirs
