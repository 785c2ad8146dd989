"""Attacks by a relay on what it carries, and by anybody on relay and gateway. What is shown is whole and true, or there is a fault."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from leanto.errors import CloudUnavailable, LeantoError, ProtocolFault
from leanto.remote import RemoteChunk, RemoteRequest
from leanto_cloud.errors import ConfigurationError
from leanto_cloud.http_server import serving
from leanto_cloud.relay.exchange import MAX_BODY_BYTES
from leanto_cloud.relay.relay import Relay, checked_target
from leanto_wire.ohttp import REQUEST_TYPE, RESPONSE_TYPE
from leanto_wire.ohttp.varint import Cursor, encode_varint
from nodes import EchoEngine, collect, open_leg, running_node
from relays import Hop, Path, relayed, running_app

REQUEST = RemoteRequest("red green blue", max_tokens=4, timeout_s=10)
Change = Callable[[bytes], bytes]


class Tampering:
    """A relay's own hand between it and the gateway: changes the bytes of answers, of requests, or the head of an answer."""

    def __init__(self, app: Any, answer: Change = bytes, request: Change = bytes, head: dict[str, Any] | None = None) -> None:
        self._app = app
        self._answer = answer
        self._request = request
        self._head = head or {}

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            event = await receive()
            body, more = body + event.get("body", b""), event.get("more_body", False)
        waiting = [{"type": "http.request", "body": self._request(body), "more_body": False}]
        sent = bytearray()
        head: dict[str, Any] = {}

        async def receiving() -> Any:
            return waiting.pop() if waiting else await receive()

        async def sending(event: Any) -> None:
            head.update(event if event["type"] == "http.response.start" else {})
            sent.extend(event.get("body", b""))

        headers = [(name, value) for name, value in scope["headers"] if name != b"content-length"]
        await self._app({**scope, "headers": headers}, receiving, sending)
        await send({**head, **self._head})
        await send({"type": "http.response.body", "body": self._answer(bytes(sent))})


def split(answer: bytes) -> list[bytes]:
    """The nonce of an answer, and its chunks with their lengths."""
    parts, cursor = [answer[:16]], Cursor(answer[16:])
    while cursor.left:
        began = cursor.at
        cursor.take(cursor.varint() or cursor.left)
        parts.append(answer[16 + began : 16 + cursor.at])
    return parts


def on_chunks(change: Callable[[list[bytes]], list[bytes]]) -> Change:
    def changed(answer: bytes) -> bytes:
        return b"".join(change(split(answer))) if len(split(answer)) > 4 else answer  # evidence passes

    return changed


def flip(at: int) -> Change:
    return on_chunks(lambda parts: [*parts[:-1], parts[-1][:at] + bytes([parts[-1][at] ^ 1]) + parts[-1][at + 1 :]])


ANSWERS: dict[str, Change] = {
    "flipped in the final chunk": flip(5),
    "flipped in the nonce": on_chunks(lambda parts: [bytes(16), *parts[1:]]),
    "flipped in a chunk": on_chunks(lambda parts: [*parts[:2], parts[2][:9] + bytes([parts[2][9] ^ 1]) + parts[2][10:], *parts[3:]]),
    "cut at a chunk's end": on_chunks(lambda parts: parts[:-1]),
    "cut in a chunk": on_chunks(lambda parts: [*parts[:-2], parts[-2][:7]]),
    "cut in the final chunk": on_chunks(lambda parts: [*parts[:-1], parts[-1][:-1]]),
    "empty": on_chunks(lambda parts: []),
    "two chunks swapped": on_chunks(lambda parts: [*parts[:2], parts[3], parts[2], *parts[4:]]),
    "a chunk repeated": on_chunks(lambda parts: [*parts[:3], parts[2], *parts[3:]]),
    "a chunk dropped": on_chunks(lambda parts: [*parts[:2], *parts[3:]]),
    "a chunk declared final": on_chunks(lambda parts: [*parts[:2], b"\x00" + parts[2][1:]]),
    "something after the end": on_chunks(lambda parts: [*parts, b"more"]),
    "a chunk of 4 GB announced": on_chunks(lambda parts: [parts[0], encode_varint(1 << 32), *parts[1:]]),
    "garbage": on_chunks(lambda parts: [b"garbage" * 100]),
}


async def through(between: Callable[[Any], Any], target_of: Callable[[Path], Any] = lambda way: way.target) -> list[RemoteChunk]:
    async with running_node() as node, relayed(node.target, between) as way, open_leg(target_of(way)) as leg:
        return await collect(leg, REQUEST)


def fault_of(between: Callable[[Any], Any]) -> LeantoError:
    with pytest.raises(LeantoError) as caught:
        asyncio.run(through(between))
    return caught.value


def test_an_untouched_answer_comes_through_the_tampering_hand() -> None:
    assert len(asyncio.run(through(Tampering))) == 5


@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer_that_a_relay_tampered_with_is_refused(name: str) -> None:
    assert isinstance(fault_of(lambda app: Tampering(app, ANSWERS[name])), ProtocolFault | CloudUnavailable)


def test_an_answer_to_another_request_is_refused() -> None:
    kept: list[bytes] = []

    def swap(answer: bytes) -> bytes:
        kept.append(answer)
        return kept[-2] if len(kept) > 2 else answer

    async def run() -> None:
        async with running_node() as node, relayed(node.target, lambda app: Tampering(app, swap)) as way, open_leg(way.target) as leg:
            assert await collect(leg, REQUEST)
            with pytest.raises(ProtocolFault):
                await collect(leg, REQUEST)

    asyncio.run(run())


@pytest.mark.parametrize("at", [0, 3, 10, 60, -1])
def test_a_request_that_a_relay_changed_reaches_no_engine(at: int) -> None:
    engine = EchoEngine()

    def change(body: bytes) -> bytes:
        raw = bytearray(body)
        raw[at] ^= 1
        return bytes(raw)

    async def run() -> None:
        between = partial(Tampering, request=change)
        async with running_node(engine) as node, relayed(node.target, between) as way, open_leg(way.target) as leg:
            with pytest.raises(LeantoError):
                await collect(leg, REQUEST)

    asyncio.run(run())
    assert engine.requests == []


def test_a_request_that_a_relay_replays_is_served_once() -> None:
    engine = EchoEngine()

    async def run() -> None:
        async with running_node(engine) as node, relayed(node.target) as way:
            async with open_leg(way.target) as leg:
                await leg.evidence()
                way.relay.received.clear()
                assert await collect(leg, REQUEST)
            body = b"".join(way.relay.received)
            async with httpx.AsyncClient() as http:
                for _ in range(3):
                    answer = await http.post(way.relay_url, content=body, headers={"content-type": REQUEST_TYPE})
                    assert answer.status_code == 200  # what became of it is sealed

    asyncio.run(run())
    assert len(engine.requests) == 1


@pytest.mark.parametrize("status", [200, 302, 404, 500])
def test_a_gateway_that_is_none_is_told_to_nobody(status: int) -> None:
    async def impostor(scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"location", b"http://127.0.0.1:1/"), (b"content-type", b"text/html"), (b"set-cookie", b"id=1")]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b"<h1>pay here</h1>"})

    async def run() -> httpx.Response:
        async with running_app(impostor) as url, relay_to(url) as relay, httpx.AsyncClient() as http:
            return await http.post(relay, content=b"x", headers={"content-type": REQUEST_TYPE})

    answer = asyncio.run(run())
    assert (answer.status_code, answer.content, dict(answer.headers)) == (502, b"", {"content-length": "0"})


@asynccontextmanager
async def relay_to(url: str) -> AsyncIterator[str]:
    relay = Relay(url)
    try:
        async with running_app(relay) as address:
            yield address
    finally:
        await relay.close()


async def sealed_nothing(scope: Any, receive: Any, send: Any) -> None:
    """A gateway that answers nothing, and gives everybody a name."""
    while (await receive()).get("more_body"):
        pass
    headers = [(b"content-type", RESPONSE_TYPE.encode()), (b"set-cookie", b"id=1"), (b"x-you-are", b"192.0.2.7"), (b"etag", b"7")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"sealed"})


def test_nothing_that_identifies_passes_the_relay_in_either_direction() -> None:
    gateway = Hop(sealed_nothing)
    telling = {
        "content-type": REQUEST_TYPE,
        "cookie": "me=1",
        "user-agent": "mine/1.0",
        "x-forwarded-for": "192.0.2.7",
        "forwarded": "for=192.0.2.7",
        "via": "1.1 home",
        "authorization": "Bearer me",
        "accept-language": "de",
        "x-request-id": "42",
    }

    async def run() -> list[httpx.Headers]:
        async with running_app(gateway) as url, relay_to(url) as relay, httpx.AsyncClient() as http:
            return [(await http.post(relay, content=b"x", headers=telling)).headers for _ in range(2)]

    for headers in asyncio.run(run()):
        assert dict(headers) == {"content-type": RESPONSE_TYPE, "transfer-encoding": "chunked"}
    for path, headers in gateway.heads:
        assert path == "/"
        assert {name for name, _ in headers} == {b"host", b"content-type", b"content-length"}


def test_no_proxy_of_the_environment_sees_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert len(asyncio.run(through(lambda app: app))) == 5


async def raw_exchange(url: str, raw: bytes) -> bytes:
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    writer.write(raw)
    try:
        return await asyncio.wait_for(reader.read(65536), 20)
    except ConnectionError:
        return b""
    finally:
        writer.close()


HEAD = b"POST %s HTTP/1.1\r\nhost: %s\r\ncontent-type: " + REQUEST_TYPE.encode() + b"\r\ncontent-length: 1\r\n\r\nx"
OTHERS = {
    "an absolute target": HEAD % (b"http://169.254.169.254/latest/", b"169.254.169.254"),
    "another path": HEAD % (b"/admin", b"relay"),
    "a path that climbs": HEAD % (b"/../secret", b"relay"),
    "a path that names a target": HEAD % (b"/http://127.0.0.1:1/", b"relay"),
    "a tunnel": b"CONNECT 169.254.169.254:80 HTTP/1.1\r\nhost: 169.254.169.254\r\n\r\n",
    "a header bomb": b"POST / HTTP/1.1\r\nhost: relay\r\n" + b"x-bomb: " + b"x" * 100_000 + b"\r\n\r\n",
    "a thousand headers": b"POST / HTTP/1.1\r\nhost: relay\r\n" + b"x-bomb: 1\r\n" * 5_000 + b"\r\n",
    "two lengths": b"POST / HTTP/1.1\r\nhost: relay\r\ncontent-length: 1\r\ncontent-length: 9\r\n\r\nx",
    "no HTTP": bytes(range(256)) * 20,
}


@pytest.mark.parametrize("name", OTHERS)
def test_a_request_for_something_else_reaches_no_gateway(name: str) -> None:
    gateway = Hop(sealed_nothing)

    async def run() -> bytes:
        async with running_app(gateway) as url, relay_to(url) as relay:
            answer = await raw_exchange(relay, OTHERS[name])
            assert gateway.heads == []
            await raw_exchange(relay, (HEAD % (b"/", b"elsewhere.example")).replace(b"\r\n\r\nx", b"\r\nconnection: close\r\n\r\nx"))
            return answer

    answer = asyncio.run(run())
    assert answer == b"" or answer.split()[1] in (b"400", b"404", b"405", b"413", b"431")
    assert [dict(headers)[b"host"] != b"elsewhere.example" for _, headers in gateway.heads] == [True]


@pytest.mark.parametrize("declared", [True, False], ids=["declared", "streamed"])
def test_an_oversize_body_is_refused(declared: bool) -> None:
    gateway = Hop(sealed_nothing)

    async def stream() -> AsyncIterator[bytes]:
        for _ in range(MAX_BODY_BYTES // 65536 + 2):
            yield bytes(65536)

    async def run() -> int:
        async with running_app(gateway) as url, relay_to(url) as relay, httpx.AsyncClient() as http:
            content: Any = bytes(MAX_BODY_BYTES + 1) if declared else stream()
            try:
                return (await http.post(relay, content=content, headers={"content-type": REQUEST_TYPE})).status_code
            except httpx.TransportError:  # closed while we were still sending
                return 413

    assert asyncio.run(run()) == 413
    assert sum(map(len, gateway.received)) <= MAX_BODY_BYTES


def test_a_connection_on_which_no_request_begins_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "REQUEST_S", 0.1)

    async def run() -> bytes:
        async with running_app(sealed_nothing) as url, relay_to(url) as relay:
            return await raw_exchange(relay, b"POST / HTTP/1.1\r\nhost: re")

    assert asyncio.run(run()) == b""


def test_a_gateway_that_breaks_off_is_not_an_end() -> None:
    async def breaking(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", RESPONSE_TYPE.encode())]})
        await send({"type": "http.response.body", "body": b"sealed", "more_body": True})
        raise ConnectionAbortedError

    async def run() -> None:
        async with running_app(breaking) as url, relay_to(url) as relay, httpx.AsyncClient() as http:
            with pytest.raises(httpx.RemoteProtocolError):
                await http.post(relay, content=b"x", headers={"content-type": REQUEST_TYPE})

    asyncio.run(run())


@pytest.mark.parametrize(
    "target",
    ["", "gateway", "http://gateway.example/", "http://169.254.169.254/", "file:///etc/passwd", "unix:/x", "https://a@b/", "https://a/?b"],
)
def test_a_relay_starts_for_no_target_but_https_or_this_machine(target: str) -> None:
    with pytest.raises(ConfigurationError):
        checked_target(target)


def test_a_name_that_means_this_machine_is_not_left_to_a_resolver() -> None:
    assert checked_target("http://localhost:80/").host == "127.0.0.1"


def test_the_key_of_another_gateway_opens_nothing() -> None:
    import base64

    from leanto_wire.ohttp.key_config import GatewayKey

    other = base64.b64encode(GatewayKey.generate().config.encode()).decode()

    def misled(way: Path) -> Any:
        return replace(way.target, relay=replace(way.target.relay, gateway_key=other))

    with pytest.raises(LeantoError):
        asyncio.run(through(lambda app: app, misled))


def test_a_dead_gateway_is_a_gateway_that_is_not_there() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

    async def run() -> int:
        async with relay_to(f"http://127.0.0.1:{port}/") as relay, httpx.AsyncClient() as http:
            return (await http.post(relay, content=b"x", headers={"content-type": REQUEST_TYPE})).status_code

    assert asyncio.run(run()) == 502
