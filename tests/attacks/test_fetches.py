"""Attacks on a client by those whom it asks over HTTP, a log's tiles and a token issuer. What they can cost it is bounded."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import threading
import time
import tracemalloc
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from leanto.clock import Clock
from leanto.errors import CloudUnavailable, DeadlineExceeded
from leanto.remote import ReleaseLog, TokenSource, fetch, release_log, wallet
from leanto.remote.release_log import LogReader
from leanto.remote.wallet import Wallet
from leanto_cloud.transparency.publish import publish
from leanto_wire.claims import Claims
from leanto_wire.errors import EvidenceError
from logs import store
from mint import VARIABLE, source
from nodes import REQUEST, fault_of, running_node

Writer = asyncio.StreamWriter
Says = Callable[[Writer], Awaitable[None]]
OK = b"HTTP/1.1 200 OK\r\n"
BOMB = gzip.compress(bytes(64 << 20), 9)
SHORT_S = 0.3


@contextmanager
def saying(says: Says) -> Iterator[tuple[str, list[bytes]]]:
    """The URL of a server that says so to whoever has sent a head, and the heads."""
    heads: list[bytes] = []
    ready, ended = threading.Event(), asyncio.Event()
    found: dict[str, Any] = {}

    async def serve() -> None:
        async def answer(reader: asyncio.StreamReader, writer: Writer) -> None:
            try:
                heads.append(await reader.readuntil(b"\r\n\r\n"))
                await says(writer)
            except (OSError, asyncio.IncompleteReadError):
                pass
            finally:
                writer.close()

        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        found.update(loop=asyncio.get_running_loop(), port=server.sockets[0].getsockname()[1])
        ready.set()
        await ended.wait()
        server.close()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    ready.wait(10)
    try:
        yield f"http://127.0.0.1:{found['port']}", heads
    finally:
        found["loop"].call_soon_threadsafe(ended.set)
        thread.join()


def whole(head: bytes, body: bytes = b"") -> Says:
    async def says(writer: Writer) -> None:
        writer.write(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        await writer.drain()

    return says


def dripping(head: bytes, *, of: bytes = b"x") -> Says:
    async def says(writer: Writer) -> None:
        writer.write(head)
        while True:
            writer.write(of)
            await writer.drain()
            await asyncio.sleep(0.02)

    return says


async def endless(writer: Writer) -> None:
    writer.write(OK + b"Transfer-Encoding: chunked\r\n\r\n")
    while True:
        writer.write(b"10000\r\n" + bytes(65536) + b"\r\n")
        await writer.drain()


async def silent(writer: Writer) -> None:
    await asyncio.Event().wait()


ATTACKS: dict[str, Says] = {
    "a gzip bomb": whole(OK + b"Content-Encoding: gzip\r\n", BOMB),
    "a bomb under a name that nobody knows": whole(OK + b"Content-Encoding: x-bomb\r\n", BOMB),
    "a body without end": endless,
    "a body of 1 TB announced": whole(OK + b"Content-Length: 1099511627776\r\n", bytes(1 << 20)),
    "two lengths": whole(OK + b"Content-Length: 1\r\n", b"xx"),
    "a head without end": dripping(OK, of=b"X-Header: " + b"x" * 4096 + b"\r\n"),
    "a body that drips": dripping(OK + b"Content-Length: 64\r\n\r\n"),
    "a head that drips": dripping(b"", of=b"H"),
    "empty answers before the answer": dripping(b"", of=b"HTTP/1.1 103 Early Hints\r\n\r\n"),
    "silence": silent,
    "a redirect to this machine": whole(b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\n"),
    "a redirect without end": whole(b"HTTP/1.1 307 Temporary Redirect\r\nLocation: /\r\n"),
    "no HTTP": whole(bytes(range(256)) * 64),
    "an answer cut off": whole(OK + b"Content-Length: 99\r\n\r\n"[:-2], b"x"),
    "an error": whole(b"HTTP/1.1 500 No\r\n", bytes(1 << 20)),
}


@contextmanager
def bounded() -> Iterator[None]:
    """At most two megabytes are held, and a second or two passes."""
    fetch.open_transport()  # reads the roots, once for all
    tracemalloc.start()
    begun = time.monotonic()
    try:
        yield
        assert time.monotonic() - begun < 10 * SHORT_S
        assert tracemalloc.get_traced_memory()[1] < 2 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", ATTACKS)
def test_tiles_from_a_server_that_attacks_are_refused_in_bounds(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(release_log, "TIMEOUT_S", SHORT_S)
    log = store(tmp_path / "log", [b"a", b"b"])
    first, second = publish(b"first", log, []), publish(b"second", log, [])
    with saying(ATTACKS[name]) as (url, heads):
        reader = LogReader(ReleaseLog(str(log.verifier), tmp_path / "kept", tiles=url))
        reader.check(first, claims(b"first"))
        with bounded(), pytest.raises(EvidenceError, match="log") as caught:
            reader.check(second, claims(b"second"))
    assert caught.value.claim == "log"
    assert len(heads) == 1  # nobody was led on
    assert (tmp_path / "kept").read_bytes() == first.checkpoint


@pytest.mark.parametrize("name", ATTACKS)
def test_an_issuer_that_attacks_is_refused_in_bounds(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wallet, "TIMEOUT_S", SHORT_S)
    monkeypatch.setenv(VARIABLE, "0123456789abcdef")
    with saying(ATTACKS[name]) as (url, heads):

        async def take() -> None:
            purse = Wallet(source(tmp_path, url), Clock())
            try:
                await purse.take()
            finally:
                await purse.close()

        with bounded(), pytest.raises(CloudUnavailable):
            asyncio.run(take())
    assert len(heads) == 1


@pytest.mark.parametrize("what", ["issuer", "tiles"])
def test_what_is_fetched_is_asked_for_unpacked_and_tells_nothing_of_who_asks(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "all_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.setenv(VARIABLE, "0123456789abcdef")
    with saying(whole(b"HTTP/1.1 404 No\r\n")) as (url, heads):
        if what == "tiles":
            log = store(tmp_path / "log", [b"a", b"b"])
            reader = LogReader(ReleaseLog(str(log.verifier), tmp_path / "kept", tiles=url))
            reader.check(publish(b"first", log, []), claims(b"first"))
            with pytest.raises(EvidenceError):
                reader.check(publish(b"second", log, []), claims(b"second"))
        else:
            with pytest.raises(CloudUnavailable):
                asyncio.run(Wallet(source(tmp_path, url), Clock()).fetch())
    (head,) = heads
    names = {line.split(b":")[0].lower() for line in head.split(b"\r\n")[1:] if line}
    assert names == {b"host", b"accept-encoding"}
    assert b"accept-encoding: identity" in head.lower()


@pytest.mark.parametrize("name", ["silence", "a body that drips"])
def test_an_issuer_that_dawdles_takes_no_longer_than_the_request_may(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "0123456789abcdef")

    async def run(tokens: TokenSource) -> float:
        async with running_node() as node:
            begun = time.monotonic()
            fault = await fault_of(replace(node.target, tokens=tokens), replace(REQUEST, timeout_s=SHORT_S))
            assert isinstance(fault, DeadlineExceeded)
            return time.monotonic() - begun

    with saying(ATTACKS[name]) as (url, _):
        assert asyncio.run(run(source(tmp_path, url))) < 5 * SHORT_S


def claims(release: bytes) -> Claims:
    return Claims("development", bytes(32), bytes(1216), 2e9, hashlib.sha256(release).digest(), "m@1", ())
