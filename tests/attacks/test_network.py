"""Attacks on a node below gRPC, frame by frame: senders and readers that dawdle, floods, and streams that are never meant to end."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

import http2
from http2 import (
    CANCEL,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    ENHANCE_YOUR_CALM,
    GOAWAY,
    HEADERS,
    PING,
    RST_STREAM,
    SETTINGS,
    Connection,
    call_headers,
    connected,
    frame,
)
from leanto.remote import RemoteRequest
from leanto_cloud.server import HEALTH, Limits
from leanto_wire.v1.inference_pb2 import TASK_TEXT, GenerateRequest, SamplingParams
from nodes import EchoEngine, Node, collect, open_leg, running_node, seal_by_hand

GENERATE = "/leanto.v1.PrivateCompute/Generate"
CHECK = f"/{HEALTH}/Check"
WATCH = f"/{HEALTH}/Watch"
HASTY = Limits(drain_s=0.0, receive_s=0.3, stall_s=0.3)


@asynccontextmanager
async def under_attack(engine: EchoEngine | None = None, limits: Limits | None = None) -> AsyncIterator[Node]:
    """A node under attack; at the end it must still serve, and hold on to nothing."""
    async with running_node(engine, limits=limits) as node:
        yield node
        async with open_leg(node.target) as leg:
            assert await collect(leg, RemoteRequest("still there", max_tokens=1, timeout_s=20))
        await until(lambda: node.server.admission.present == 0)


async def until(condition: Callable[[], bool], timeout_s: float = 20.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.005)


async def sealed(node: Node) -> bytes:
    async with open_leg(node.target) as leg:
        claims = await leg.evidence()
    inner = GenerateRequest(text="a " * 2000, task=TASK_TEXT, stream=True, sampling_params=SamplingParams(max_tokens=100_000))
    return seal_by_hand(claims, inner)[0].SerializeToString()


def attack(act: Callable[[Node], Awaitable[None]], engine: EchoEngine | None = None, limits: Limits | None = None) -> None:
    async def run() -> None:
        async with under_attack(engine, limits) as node:
            await act(node)

    asyncio.run(run())


async def ends(connection: Connection, stream: int = 1) -> bool:
    """Whether the node ends that stream, by trailers or by a reset, or hangs up."""
    async with asyncio.timeout(20):
        async for come in connection.frames():
            if come.stream == stream and (come.kind == RST_STREAM or (come.kind == HEADERS and come.flags & END_STREAM)):
                return True
    return True


def test_a_request_that_never_comes_is_not_waited_for() -> None:
    async def act(node: Node) -> None:
        async with connected(node.address) as connection:
            await connection.call(GENERATE, None)
            assert await ends(connection)

    attack(act, limits=HASTY)


def test_a_request_that_trickles_in_is_not_waited_for() -> None:
    async def act(node: Node) -> None:
        async with connected(node.address) as connection:
            await connection.call(GENERATE, None)
            ended = asyncio.create_task(ends(connection))
            raw = http2.message(bytes(1_000_000))
            for at in range(1000):
                await connection.send(frame(DATA, raw[at : at + 1], stream=1))
                if (await asyncio.wait([ended], timeout=0.02))[0]:
                    break
            assert await ended

    attack(act, limits=HASTY)


def test_slow_senders_in_numbers_do_not_keep_others_out() -> None:
    async def act(node: Node) -> None:
        async with connected(node.address) as one, connected(node.address) as other:
            for connection in (one, other):
                for i in range(100):
                    await connection.call(GENERATE, None, stream=2 * i + 1)
            assert await ends(one, 199)
            assert await ends(other, 199)

    attack(act, limits=HASTY)


@pytest.mark.parametrize("said", [b"", http2.PREFACE[:10], http2.PREFACE], ids=["silent", "half a preface", "no settings"])
def test_a_connection_that_does_not_get_going_is_closed(said: bytes) -> None:
    async def act(node: Node) -> None:
        host, port = node.address.split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(said)
        async with asyncio.timeout(20):
            while await reader.read(4096):
                pass
        writer.close()

    attack(act, limits=HASTY)


def test_a_reader_that_takes_nothing_is_dropped_and_its_place_is_free() -> None:
    engine = EchoEngine()

    async def act(node: Node) -> None:
        async with connected(node.address, window=0) as connection:
            await connection.call(GENERATE, await sealed(node))
            await asyncio.wait_for(engine.stopped.wait(), 20)
            await until(lambda: node.server.admission.present == 0)

    attack(act, engine, HASTY)
    assert engine.produced < 100  # those that wait to leave


def test_a_reader_that_stops_reading_is_dropped_and_its_place_is_free() -> None:
    engine = EchoEngine()

    async def act(node: Node) -> None:
        async with connected(node.address, window=5000) as connection:
            await connection.call(GENERATE, await sealed(node))
            await asyncio.wait_for(engine.stopped.wait(), 20)
            await until(lambda: node.server.admission.present == 0)

    attack(act, engine, HASTY)
    assert engine.produced < 100_000


def test_readers_in_numbers_that_take_nothing_do_not_keep_others_out() -> None:
    async def act(node: Node) -> None:
        async with AsyncExitStack() as stack:
            for _ in range(4):
                connection = await stack.enter_async_context(connected(node.address, window=0))
                for i in range(100):
                    await connection.call(CHECK, b"", stream=2 * i + 1)
            await asyncio.sleep(2 * HASTY.stall_s)
            async with open_leg(node.target) as leg:
                assert await collect(leg, RemoteRequest("let me in", max_tokens=1, timeout_s=20))

    attack(act, limits=HASTY)


def test_a_health_watcher_that_takes_nothing_does_not_hold_up_the_drain() -> None:
    async def run() -> float:
        async with running_node(limits=Limits(drain_s=0.0)) as node, connected(node.address, window=0) as connection:
            await connection.call(WATCH, b"")
            await connection.wait_for(SETTINGS)
            await asyncio.sleep(0.05)
            begun = time.monotonic()
            await node.server.stop()
            return time.monotonic() - begun

    assert asyncio.run(run()) < 10


def test_a_ping_flood_ends_the_connection() -> None:
    async def act(node: Node) -> None:
        async with connected(node.address) as connection:
            await connection.send(*[frame(PING, bytes(8)) for _ in range(1000)])
            goaway = await connection.wait_for(GOAWAY)
            assert goaway is not None
            assert goaway.error == ENHANCE_YOUR_CALM

    attack(act)


def test_a_settings_flood_is_survived() -> None:
    async def act(node: Node) -> None:
        async with connected(node.address) as connection:
            await connection.send(*[frame(SETTINGS) for _ in range(5000)])
            await connection.wait_for(SETTINGS)

    attack(act)


def test_rapid_resets_run_nothing_and_are_survived() -> None:
    engine = EchoEngine()

    async def act(node: Node) -> None:
        async with connected(node.address) as connection:
            raw = await sealed(node)
            for i in range(2000):
                stream = 2 * i + 1
                await connection.send(
                    frame(HEADERS, call_headers(GENERATE), flags=END_HEADERS, stream=stream),
                    frame(DATA, http2.message(raw), flags=END_STREAM, stream=stream),
                    frame(RST_STREAM, CANCEL.to_bytes(4, "big"), stream=stream),
                )
        await until(lambda: engine.running == 0)

    attack(act, engine)
    assert len(engine.requests) <= 2  # one that came through before its reset, and the last one


def test_headers_that_never_end_are_not_kept() -> None:
    async def act(node: Node) -> None:
        async with connected(node.address) as connection:
            await connection.send(frame(HEADERS, call_headers(GENERATE), stream=1))
            for _ in range(3000):
                await connection.send(frame(CONTINUATION, http2.literal("more", "x" * 100) * 50, stream=1))
            assert await ends(connection)

    attack(act)


def test_headers_that_unpack_to_far_more_are_refused() -> None:
    stored = b"\x40\x01a" + http2._length(3500) + b"x" * 3500  # goes into the dynamic table, as entry 62
    bomb = call_headers(GENERATE) + stored + b"\xbe" * 5000

    async def act(node: Node) -> None:
        async with connected(node.address) as connection:
            await connection.send(frame(HEADERS, bomb, flags=END_HEADERS | END_STREAM, stream=1))
            assert await ends(connection)

    attack(act)


def test_streams_beyond_the_limit_of_a_connection_are_refused() -> None:
    engine = EchoEngine(gate=asyncio.Event())

    async def act(node: Node) -> None:
        async with connected(node.address) as connection:
            for i in range(150):
                await connection.call(GENERATE, None, stream=2 * i + 1)
            async with asyncio.timeout(20):
                refused = {come.stream async for come in _resets(connection, 50)}
            assert refused == {2 * i + 1 for i in range(100, 150)}
        assert engine._gate
        engine._gate.set()

    attack(act, engine)


async def _resets(connection: Connection, count: int) -> AsyncIterator[http2.Frame]:
    async for come in connection.frames():
        if come.kind == RST_STREAM:
            yield come
            count -= 1
            if count == 0:
                return


@pytest.mark.parametrize("path", [b"/leanto.v1.PrivateCompute/Gen\x9c", b"\xff", b"/\xc3\x28/x"], ids=["at its end", "one byte", "in it"])
def test_a_method_whose_name_is_no_text_does_not_end_the_server(path: bytes) -> None:
    async def act(node: Node) -> None:
        async with connected(node.address) as connection:
            await connection.send(frame(HEADERS, call_headers(path), flags=END_HEADERS | END_STREAM, stream=1))
            assert await ends(connection)

    attack(act)


def test_bytes_that_are_no_http2_end_the_connection_alone() -> None:
    async def act(node: Node) -> None:
        host, port = node.address.split(":")
        for garbage in (b"GET / HTTP/1.1\r\n\r\n", bytes(5000), b"\x16\x03\x01\x02\x00" + bytes(512)):
            with socket.create_connection((host, int(port))) as connection:
                connection.sendall(garbage)

    attack(act)
