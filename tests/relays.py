"""Gateways and relays on real loopback sockets, each writing down what it saw."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from leanto.remote import Relay as Way
from leanto.remote import RemoteTarget
from leanto_cloud.relay.channel import open_channel
from leanto_cloud.relay.gateway import Gateway
from leanto_cloud.relay.relay import Relay
from leanto_cloud.relay.serving import Listening, make_server
from leanto_wire.ohttp.key_config import GatewayKey

KEY = GatewayKey.of(bytes(range(32)))


@dataclass
class Hop:
    """What one application was sent and what it answered: callers, paths and headers, and the bytes of each direction."""

    app: Any
    callers: set[str] = field(default_factory=set)
    heads: list[tuple[str, tuple[tuple[bytes, bytes], ...]]] = field(default_factory=list)
    received: list[bytes] = field(default_factory=list)
    sent: list[bytes] = field(default_factory=list)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.callers.add(f"{scope['client'][0]}:{scope['client'][1]}")
        self.heads.append((scope["path"], tuple(map(tuple, scope["headers"]))))

        async def receiving() -> Any:
            event = await receive()
            self.received.append(event.get("body", b""))
            return event

        async def sending(event: Any) -> None:
            self.sent.append(event.get("body", b""))
            await send(event)

        await self.app(scope, receiving, sending)

    @property
    def bytes_seen(self) -> bytes:
        return b"".join([*self.received, *self.sent, *(name + value for _, headers in self.heads for name, value in headers)])


@asynccontextmanager
async def running_app(app: Any, where: Listening | None = None) -> AsyncIterator[str]:
    """The address of a server of `app`, as `leanto-relay` would serve it."""
    server, listening, address = make_server(app, where or Listening())
    with listening:
        task = asyncio.create_task(server._serve([listening]))  # without the signal handlers of `serve`
        while not server.started:
            await asyncio.sleep(0)
        try:
            yield address
        finally:
            server.should_exit = True
            await task


@dataclass
class Path:
    """A node behind a gateway behind a relay, and how a client reaches it."""

    relay: Hop
    gateway: Hop
    relay_url: str
    target: RemoteTarget


@asynccontextmanager
async def relayed(target: RemoteTarget, between: Callable[[Any], Any] = lambda app: app) -> AsyncIterator[Path]:
    """The way to the node of `target`. `between` may put something in front of the gateway."""
    async with AsyncExitStack() as stack:
        channel = open_channel(target.address)
        stack.push_async_callback(channel.close)
        gateway = Hop(Gateway(KEY, channel))
        gateway_url = await stack.enter_async_context(running_app(between(gateway)))
        forwarding = Relay(gateway_url)
        stack.push_async_callback(forwarding.close)
        relay = Hop(forwarding)
        relay_url = await stack.enter_async_context(running_app(relay))
        way = Way(relay_url, base64.b64encode(KEY.config.encode()).decode())
        yield Path(relay, gateway, relay_url, replace(target, address="node.example:443", relay=way))
