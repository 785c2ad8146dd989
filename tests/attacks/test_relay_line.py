"""Attacks on the line between a client and its relay: TLS that breaks in mid-answer, a connection that is closed or goes silent."""

from __future__ import annotations

import asyncio
import base64
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from certificates import Authority
from leanto.errors import CloudUnavailable, DeadlineExceeded, LeantoError
from leanto.remote import Relay as Way
from leanto.remote import RemoteRequest, RemoteTarget, Tls
from leanto_cloud.relay.channel import open_channel
from leanto_cloud.relay.gateway import Gateway
from leanto_cloud.relay.relay import Relay
from leanto_cloud.relay.serving import Listening
from nodes import EchoEngine, Node, collect, open_leg, running_node, text_of
from relays import KEY, running_app

REQUEST = RemoteRequest("red green blue", max_tokens=4, timeout_s=10)


class Line:
    """Carries bytes between a client and a relay, and does to those that come back what its `hand` says."""

    def __init__(self, port: int) -> None:
        self.hand = lambda data: data
        self._port = port
        self._carrying: set[asyncio.Task[Any]] = set()

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        behind, before = await asyncio.open_connection("127.0.0.1", self._port)
        tasks = {asyncio.create_task(self._pass(reader, before, False)), asyncio.create_task(self._pass(behind, writer, True))}
        self._carrying |= tasks
        await asyncio.wait(tasks)

    def cut(self) -> None:
        for task in self._carrying:
            task.cancel()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, back: bool) -> None:
        try:
            while data := await reader.read(65536):
                writer.write(self.hand(data) if back else data)
        except OSError:
            pass
        finally:
            writer.close()


@asynccontextmanager
async def over_a_line(node: Node, folder: Path) -> AsyncIterator[tuple[RemoteTarget, Line]]:
    """The way to the node through a relay that speaks TLS, and the line before it."""
    authority = Authority(folder)
    where = Listening("127.0.0.1", 0, *authority.issue("relay", "127.0.0.1"))
    channel = open_channel(node.address)
    async with running_app(Gateway(KEY, channel)) as gateway:
        relay = Relay(gateway)
        async with running_app(relay, where) as address:
            line = Line(httpx.URL(address).port or 0)
            server = await asyncio.start_server(line.carry, "127.0.0.1", 0)
            url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
            way = Way(url, base64.b64encode(KEY.config.encode()).decode())
            try:
                yield replace(node.target, address="node.example:443", relay=way, tls=Tls(root_certificates=authority.file)), line
            finally:
                line.cut()
                server.close()
        await relay.close()
    await channel.close()


def last_byte_flipped(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


def test_a_byte_flipped_in_the_tls_to_the_relay_ends_the_call_at_once(tmp_path: Path) -> None:
    async def run() -> tuple[LeantoError, float]:
        engine = EchoEngine(gate=(gate := asyncio.Event()))
        async with running_node(engine) as node, over_a_line(node, tmp_path) as (target, line), open_leg(target) as leg:
            asked = asyncio.create_task(collect(leg, REQUEST))
            await engine.started.wait()
            line.hand = last_byte_flipped
            begun = time.monotonic()
            gate.set()
            with pytest.raises(LeantoError) as caught:
                await asked
            return caught.value, time.monotonic() - begun

    fault, took_s = asyncio.run(run())
    assert isinstance(fault, CloudUnavailable)
    assert took_s < REQUEST.timeout_s / 2


def test_an_untouched_line_carries_the_answer(tmp_path: Path) -> None:
    async def run() -> str:
        async with running_node() as node, over_a_line(node, tmp_path) as (target, _), open_leg(target) as leg:
            return text_of(await collect(leg, REQUEST))

    assert asyncio.run(run()) == " red green blue red"


def test_a_line_that_swallows_the_answer_costs_no_more_than_the_calls_time(tmp_path: Path) -> None:
    async def run() -> tuple[LeantoError, float]:
        engine = EchoEngine(gate=(gate := asyncio.Event()))
        async with running_node(engine) as node, over_a_line(node, tmp_path) as (target, line), open_leg(target) as leg:
            await leg.evidence()
            begun = time.monotonic()
            asked = asyncio.create_task(collect(leg, replace(REQUEST, timeout_s=0.5)))
            await engine.started.wait()
            line.hand = lambda _: b""
            gate.set()
            with pytest.raises(LeantoError) as caught:
                await asked
            return caught.value, time.monotonic() - begun

    fault, took_s = asyncio.run(run())
    assert isinstance(fault, DeadlineExceeded)
    assert took_s < 3


def test_a_leg_that_is_closed_under_a_relayed_call_ends_it(tmp_path: Path) -> None:
    async def run() -> LeantoError:
        engine = EchoEngine(gate=asyncio.Event())
        async with running_node(engine) as node, over_a_line(node, tmp_path) as (target, _), open_leg(target) as leg:
            asked = asyncio.create_task(collect(leg, REQUEST))
            await engine.started.wait()
            await leg.close()
            with pytest.raises(LeantoError) as caught:
                await asyncio.wait_for(asked, 5)
            assert len(engine.requests) == 1
            return caught.value

    assert isinstance(asyncio.run(run()), CloudUnavailable)


@pytest.mark.parametrize("at", ["its head", "its body"])
@pytest.mark.parametrize(
    "error",
    [ssl.SSLError("record layer failure"), OSError(), RuntimeError("a fault of a library"), anyio.ClosedResourceError(), EOFError()],
    ids=lambda error: type(error).__name__,
)
def test_whatever_a_transport_raises_the_caller_gets_a_fault(error: Exception, at: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Breaking(httpx.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            yield b"x"
            raise error

    async def handle(*_: object) -> httpx.Response:
        if at == "its head":
            raise error
        return httpx.Response(200, headers={"content-type": "message/ohttp-chunked-res"}, stream=Breaking())

    monkeypatch.setattr(httpx.AsyncHTTPTransport, "handle_async_request", handle)
    way = Way("http://127.0.0.1:1/", base64.b64encode(KEY.config.encode()).decode())

    async def run() -> LeantoError:
        async with running_node() as node, open_leg(replace(node.target, address="node.example:443", relay=way)) as leg:
            with pytest.raises(LeantoError) as caught:
                await asyncio.wait_for(collect(leg, REQUEST), 5)
            return caught.value

    assert isinstance(asyncio.run(run()), CloudUnavailable)
