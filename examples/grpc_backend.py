"""A back end that speaks gRPC: a command in, the answer out, and in the trailing metadata why it came from where it came from.

Every name is that of the HTTP header (examples/backend.py). python examples/grpc_backend.py serves on loopback and asks itself once.
"""

from __future__ import annotations

import asyncio
from typing import Any

import grpc

from leanto import AsyncClient, LeantoError
from leanto.trace import metadata

METHOD = "/example.Commands/Ask"
client = AsyncClient()


async def ask(command: bytes, context: Any) -> bytes:
    try:
        reply = await client.ask(command.decode("utf-8", "replace"), private=True)
    except LeantoError as error:
        refused = error.decision is None
        context.set_trailing_metadata(metadata(error.decision) if error.decision else ())
        await context.abort(grpc.StatusCode.INVALID_ARGUMENT if refused else grpc.StatusCode.UNAVAILABLE, str(error))
    context.set_trailing_metadata(metadata(reply.decision))
    return reply.text.encode()


async def main() -> None:
    server = grpc.aio.server()
    service, _, name = METHOD.strip("/").partition("/")
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {name: grpc.unary_unary_rpc_method_handler(ask)}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        call: Any = channel.unary_unary(METHOD)(b"wake me at half past six on weekdays")
        print((await call).decode())
        for key, value in await call.trailing_metadata():
            print(f"{key}: {value}")
    await server.stop(None)
    await client.aclose()


if __name__ == "__main__":
    asyncio.run(main())
