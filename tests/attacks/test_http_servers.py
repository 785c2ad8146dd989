"""Attacks by anybody on our HTTP servers: relay, gateway, issuer, log and witness, which are one server with one set of limits."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import struct
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from certificates import Authority
from leanto_cloud.http_server import Answer, Answering, Request, asgi, serving
from leanto_cloud.http_server.serving import Listening, Server, make_server
from leanto_cloud.relay.relay import Relay
from leanto_wire.ohttp import REQUEST_TYPE, RESPONSE_TYPE
from relays import Hop, running_app

Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Connect = Callable[..., Awaitable[Stream]]
GET = b"GET /checkpoint HTTP/1.1\r\nhost: log\r\n\r\n"
LAST = b"GET /checkpoint HTTP/1.1\r\nhost: log\r\nconnection: close\r\n\r\n"
SOON_S = 20.0  # what a busy machine may take for what takes no time


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server's clocks, faster."""
    monkeypatch.setattr(serving, "REQUEST_S", 1.0)
    monkeypatch.setattr(serving, "STALL_S", 0.3)
    monkeypatch.setattr(asgi, "BODY_S", 0.3)


class Desk:
    """Answers every request with what it was sent, and remembers it."""

    def __init__(self, content: bytes = b"") -> None:
        self.seen: list[Request] = []
        self._content = content

    def respond(self, request: Request) -> Answer:
        self.seen.append(request)
        return 200, "text/plain", self._content or request.path.encode() + request.body


@asynccontextmanager
async def running(app: Any, where: Listening | None = None) -> AsyncIterator[tuple[Server, Connect]]:
    """A server of `app`, and what connects to it."""
    server, listening, address = make_server(app, where or Listening())
    streams: list[Stream] = []

    async def connect(tls: ssl.SSLContext | None = None) -> Stream:
        streams.append(await asyncio.open_connection("127.0.0.1", urlsplit(address).port, ssl=tls))
        return streams[-1]

    with listening:
        task = asyncio.create_task(server._serve([listening]))
        try:
            yield server, connect
        finally:
            for _, writer in streams:
                writer.transport.abort()
            server.should_exit = True
            await task


async def ended(reader: asyncio.StreamReader) -> bytes:
    """What is still read until the server ends the connection."""
    got = b""
    async with asyncio.timeout(SOON_S):
        try:
            while part := await reader.read(65536):
                got += part
        except ConnectionError:
            pass
    return got


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(SOON_S):
        while not true():
            await asyncio.sleep(0.01)


def told(raw: bytes) -> tuple[bytes, list[Request]]:
    """All that a connection is answered to `raw`, and what was asked in there by the server's own count."""
    desk = Desk()

    async def run() -> bytes:
        async with running(Answering(desk.respond)) as (_, connect):
            reader, writer = await connect()
            writer.write(raw)
            return await ended(reader)

    return asyncio.run(run()), desk.seen


def post(*headers: bytes, body: bytes = b"") -> bytes:
    return b"POST /token-request HTTP/1.1\r\nhost: issuer\r\n" + b"".join(line + b"\r\n" for line in headers) + b"\r\n" + body


@pytest.mark.parametrize("length", [b"0" * 12 + b"314572800", b"0" * 5000, b"9" * 5000, b"314572800", b"65537", b"00000000000314572800"])
def test_a_length_over_the_limit_is_refused_however_it_is_written(length: bytes) -> None:
    answer, seen = told(post(b"content-length: " + length, body=b"x" * 70_000))
    assert answer.split()[1] in (b"400", b"413")
    assert seen == []


def test_a_request_in_the_body_of_another_is_no_request() -> None:
    inner = post(b"content-length: 0")
    answer, seen = told(b"GET /dir HTTP/1.1\r\nhost: issuer\r\ncontent-length: %d\r\n\r\n" % len(inner) + inner + LAST)
    assert [(one.method, one.path) for one in seen] == [("GET", "/dir"), ("GET", "/checkpoint")]
    assert answer.count(b"HTTP/1.1 200") == 2


@pytest.mark.parametrize(
    "headers",
    [
        (b"content-length: 0", b"content-length: 5"),
        (b"content-length: 5, 0",),
        (b"content-length: +5",),
        (b"content-length: 5 5",),
        (b"content-length: 0x5",),
        (b"content-length: -5",),
        (b"transfer-encoding: chunked",),
        (b"transfer-encoding: chunked", b"content-length: 5"),
        (b"transfer-encoding: identity", b"content-length: 5"),
        (b"transfer-encoding: gzip, chunked",),
        (b"transfer-encoding : chunked",),
    ],
    ids=lambda headers: b" ".join(headers).decode(),
)
def test_a_request_whose_end_may_be_seen_in_two_places_is_the_last_of_its_connection(headers: tuple[bytes, ...]) -> None:
    answer, seen = told(post(*headers, body=b"hello" + GET))
    assert answer.startswith((b"HTTP/1.1 400", b"HTTP/1.1 411", b"HTTP/1.1 501"))
    assert answer.count(b"HTTP/1.1") == 1
    assert seen == []


def test_a_relay_takes_no_request_of_two_lengths() -> None:
    async def run() -> tuple[bytes, int]:
        gateway = Hop(Answering(Desk().respond))
        async with running_app(gateway) as url:
            relay = Relay(url)
            async with running(relay) as (_, connect):
                reader, writer = await connect()
                head = b"POST / HTTP/1.1\r\nhost: r\r\ncontent-type: " + REQUEST_TYPE.encode()
                writer.write(head + b"\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n" + head + b"\r\n\r\n")
                answer = await ended(reader)
            await relay.close()
            return answer, len(gateway.heads)

    answer, forwarded = asyncio.run(run())
    assert answer.startswith(b"HTTP/1.1 400")
    assert answer.count(b"HTTP/1.1") == 1
    assert forwarded == 0


def test_a_reset_or_a_broken_request_is_written_down_nowhere(tmp_path: Path) -> None:
    (tmp_path / "checkpoint").write_bytes(b"x" * 2_000_000)
    command = [sys.executable, "-m", "leanto_cloud", "log", "serve", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        port = urlsplit(process.stdout.readline().split()[0]).port
        for raw in (
            GET,
            b"\xff\r\n\r\n",
            post(b"content-length: " + b"0" * 5000),
            post(b"upgrade: websocket", b"connection: upgrade"),
            b"",
        ):
            with socket.create_connection(("127.0.0.1", port)) as attacker:
                attacker.sendall(raw)
                attacker.settimeout(SOON_S)
                if raw:
                    attacker.recv(10)
                attacker.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        process.terminate()
        assert process.wait(30) == 0
        assert (process.stdout.read(), process.stderr.read()) == ("", "")


async def trickle(stream: Stream, raw: bytes) -> bytes:
    """Send a byte now and then, for ever; what is read until the server has had enough."""

    async def send() -> None:
        while True:
            stream[1].write(raw)
            await asyncio.sleep(0.02)

    sending = asyncio.ensure_future(send())
    try:
        return await ended(stream[0])
    finally:
        sending.cancel()


@pytest.mark.parametrize("answered", [0, 1, 3])
def test_a_request_that_trickles_is_not_waited_for(answered: int) -> None:

    async def run() -> None:
        async with running(Answering(Desk().respond)) as (_, connect):
            reader, writer = await connect()
            for _ in range(answered):
                writer.write(GET)
                await reader.readuntil(b"/checkpoint")
            writer.write(b"GET /")
            assert await trickle((reader, writer), b"a") == b""

    asyncio.run(run())


def test_a_connection_that_asks_again_in_time_is_kept_for_longer_than_one_request_may_take_to_begin() -> None:
    async def run() -> None:
        async with running(Answering(Desk().respond)) as (_, connect):
            reader, writer = await connect()
            until = asyncio.get_running_loop().time() + 2.5 * serving.REQUEST_S
            while asyncio.get_running_loop().time() < until:
                writer.write(GET)
                await reader.readuntil(b"/checkpoint")
                await asyncio.sleep(0.2 * serving.REQUEST_S)

    asyncio.run(run())


def test_a_body_that_trickles_is_not_waited_for() -> None:
    desk = Desk()

    async def run() -> bytes:
        async with running(Answering(desk.respond)) as (_, connect):
            reader, writer = await connect()
            writer.write(post(b"content-length: 60000"))
            return await trickle((reader, writer), b"a")

    assert asyncio.run(run()).startswith(b"HTTP/1.1 408")
    assert desk.seen == []


@pytest.fixture(params=[False, True], ids=["plaintext", "TLS"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> Listening:
    if not request.param:
        return Listening()
    certificate, key = Authority(tmp_path).issue("node", "127.0.0.1")
    return Listening(certificate=certificate, key=key)


def trusting(where: Listening) -> ssl.SSLContext | None:
    """What opens a connection to there, whoever answers."""
    if where.certificate is None:
        return None
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def test_a_connection_on_which_nothing_comes_is_ended_before_its_handshake_and_after(where: Listening) -> None:
    async def run() -> None:
        async with running(Answering(Desk().respond), where) as (_, connect):
            assert await ended((await connect())[0]) == b""
            assert await ended((await connect(trusting(where)))[0]) == b""

    asyncio.run(run())


def test_a_reader_that_takes_its_answer_gets_all_of_it(where: Listening) -> None:
    async def run() -> int:
        async with running(Answering(Desk(bytes(8 << 20)).respond), where) as (_, connect):
            reader, writer = await connect(trusting(where))
            writer.write(LAST)
            return len(await ended(reader))

    assert asyncio.run(run()) > 8 << 20


@pytest.mark.parametrize("megabytes", [1, 64], ids=["an answer that the kernel keeps", "one that it does not"])
@pytest.mark.parametrize("request_", [GET, LAST], ids=["kept alive", "the last request"])
def test_a_reader_that_takes_nothing_of_its_answer_is_let_go(megabytes: int, request_: bytes, where: Listening) -> None:
    async def run() -> None:
        async with running(Answering(Desk(bytes(megabytes << 20)).respond), where) as (server, connect):
            _, writer = await connect(trusting(where))
            writer.transport.pause_reading()
            writer.write(request_)
            await until(lambda: server.server_state.total_requests > 0 or len(server.server_state.tasks) > 0)
            await until(lambda: not server.server_state.connections and not server.server_state.tasks)

    asyncio.run(run())


def test_a_reader_that_takes_nothing_through_a_relay_stops_the_work_behind_it() -> None:
    stopped = asyncio.Event()

    async def endless(scope: Any, receive: Any, send: Any) -> None:
        async def work() -> None:
            try:
                while True:
                    await asgi.part(send, bytes(65536), more=True)
            finally:
                stopped.set()

        await receive()
        await asgi.start(send, 200, RESPONSE_TYPE)
        await asgi.while_connected(receive, work())

    async def run() -> None:
        async with running_app(endless) as url:
            relay = Relay(url)
            async with running(relay) as (server, connect):
                _, writer = await connect()
                writer.transport.pause_reading()
                writer.write(b"POST / HTTP/1.1\r\nhost: r\r\ncontent-length: 1\r\ncontent-type: " + REQUEST_TYPE.encode() + b"\r\n\r\nx")
                async with asyncio.timeout(SOON_S):
                    await stopped.wait()
                await until(lambda: not server.server_state.connections)
            await relay.close()

    asyncio.run(run())


def test_no_more_connections_are_held_than_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "CONNECTIONS", 2)

    async def run() -> None:
        async with running(Answering(Desk().respond)) as (server, connect):
            held = [await connect() for _ in range(2)]
            await until(lambda: len(server.server_state.connections) == 2)
            assert await ended((await connect())[0]) == b""
            held[0][1].close()
            await until(lambda: len(server.server_state.connections) == 1)
            reader, writer = await connect()
            writer.write(GET)
            assert (await reader.read(12)) == b"HTTP/1.1 200"

    asyncio.run(run())


def test_many_requests_at_once_take_a_bounded_number_of_threads() -> None:
    release = threading.Event()
    most = min(32, (os.cpu_count() or 1) + 4)
    running_now = 0

    def respond(request: Request) -> Answer:
        nonlocal running_now
        running_now += 1
        release.wait(SOON_S)
        return 200, "text/plain", b"done"

    async def run() -> None:
        async with running(Answering(respond)) as (server, connect):
            streams = [await connect() for _ in range(most + 30)]
            for _, writer in streams:
                writer.write(GET)
            await until(lambda: len(server.server_state.tasks) == len(streams))
            await until(lambda: running_now == most)
            release.set()
            for reader, _ in streams:
                await reader.readuntil(b"done")

    asyncio.run(run())
    assert running_now == most + 30
