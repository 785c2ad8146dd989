"""Client → relay → gateway → node over real sockets: the same answers, and what each on the way gets to see."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from leanto.clock import Clock
from leanto.errors import CloudUnavailable, DeadlineExceeded, TargetError
from leanto.remote import RemoteRequest
from mint import NOW, VARIABLE, redeemer, running_issuer, source
from nodes import MODEL_ID, EchoEngine, collect, open_leg, running_node, text_of
from relays import relayed

REQUEST = RemoteRequest("canary-7f3a green blue", max_tokens=4, timeout_s=20)


def test_an_answer_comes_through_the_relay_as_it_does_without() -> None:
    async def run() -> None:
        async with running_node() as node, relayed(node.target) as way:
            async with open_leg(node.target) as direct, open_leg(way.target) as leg:
                straight, around = direct.generate(REQUEST), leg.generate(REQUEST)
                assert [chunk async for chunk in around] == [chunk async for chunk in straight]
                assert (around.bytes_received, around.bytes_sent) == (straight.bytes_received, straight.bytes_sent)
                assert leg.model_id == MODEL_ID
            assert way.relay.heads

    asyncio.run(run())


def test_what_each_hop_saw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        engine = EchoEngine()
        requests: list[bytes] = []
        taker = redeemer(tmp_path, now_s=lambda: NOW)

        class Recording:
            def check(self, raw: bytes) -> Any:
                requests.append(raw)
                return taker.check(raw)

            def spend(self, token: Any) -> None:
                taker.spend(token)

        with running_issuer(tmp_path) as (issuer, url, account):
            monkeypatch.setenv(VARIABLE, account)
            async with running_node(engine, redeemer=Recording()) as node, relayed(node.target) as way:
                target = replace(way.target, tokens=source(tmp_path, url))
                async with open_leg(target) as leg:
                    assert text_of(await collect(leg, REQUEST)) == " canary-7f3a green blue canary-7f3a"
            (token,) = requests
            relay, gateway = way.relay.bytes_seen, way.gateway.bytes_seen
            secrets = {"prompt": b"canary-7f3a", "token": token[2:34], "account": account.encode(), "model": MODEL_ID.encode()}
            assert [name for name, secret in secrets.items() if secret in relay] == []
            assert [name for name, secret in secrets.items() if secret in gateway] == []
            assert b"node.example" not in relay
            assert not way.relay.callers & way.gateway.callers
            for _, headers in way.gateway.heads:
                assert {name for name, _ in headers} == {b"host", b"content-type", b"content-length"}
            at_issuer = b"".join(request.body + answer[2] for request, answer in issuer.issued)
            assert all(request.authorization == f"Bearer {account}" for request, _ in issuer.issued)
            spent = token[2:34] + token[98:]
            assert all(spent[at : at + 4] not in at_issuer for at in range(len(spent) - 3))
            assert b"canary-7f3a" not in at_issuer

    asyncio.run(run())


def test_chunks_come_as_they_are_made() -> None:
    async def run() -> None:
        gate = asyncio.Event()
        engine = EchoEngine(gate=gate)
        async with running_node(engine) as node, relayed(node.target) as way, open_leg(way.target) as leg:
            call = leg.generate(replace(REQUEST, max_tokens=2))
            first = asyncio.ensure_future(anext(call))
            await engine.started.wait()
            gate.set()
            assert (await first).text == " canary-7f3a"
            assert [chunk.text async for chunk in call] == [" green", ""]

    asyncio.run(run())


def test_a_client_that_leaves_stops_the_engine_behind_all_hops() -> None:
    async def run() -> None:
        engine = EchoEngine()
        async with running_node(engine) as node, relayed(node.target) as way, open_leg(way.target) as leg:
            call = leg.generate(replace(REQUEST, max_tokens=1_000_000))
            await anext(call)
            await call.aclose()
            await asyncio.wait_for(engine.stopped.wait(), 20)

    asyncio.run(run())


def test_a_busy_node_and_a_late_one_say_so_through_the_relay() -> None:
    async def run() -> None:
        engine = EchoEngine(gate=asyncio.Event())
        async with running_node(engine) as node, relayed(node.target) as way, open_leg(way.target) as leg:
            await leg.evidence()
            with pytest.raises(DeadlineExceeded):
                await collect(leg, replace(REQUEST, timeout_s=0.3))
            node.server.admission.drain()
            with pytest.raises(CloudUnavailable, match="cannot be reached"):
                await collect(leg, REQUEST)

    asyncio.run(run())


def test_without_a_relay_there_is_a_fault_and_not_a_way_around_it() -> None:
    async def run() -> None:
        async with running_node() as node, relayed(node.target) as way:
            target = way.target
        async with open_leg(target, clock=Clock()) as leg:
            with pytest.raises(CloudUnavailable):
                await collect(leg, REQUEST)

    asyncio.run(run())


@pytest.mark.parametrize(
    "url", ["http://relay.example/", "ftp://127.0.0.1/", "https://user@relay.example/", "https://", "x", "https://a:99999/"]
)
def test_a_relay_that_cannot_be_used_is_the_users_mistake(url: str) -> None:
    async def run() -> None:
        async with running_node() as node, relayed(node.target) as way:
            assert way.target.relay is not None
            async with open_leg(replace(way.target, relay=replace(way.target.relay, url=url))):
                pass

    with pytest.raises(TargetError):
        asyncio.run(run())


@pytest.mark.parametrize("key", ["", "AAAA", "not base64!"])
def test_a_gateways_key_that_is_none_is_the_users_mistake(key: str) -> None:
    async def run() -> None:
        async with running_node() as node, relayed(node.target) as way:
            assert way.target.relay is not None
            async with open_leg(replace(way.target, relay=replace(way.target.relay, gateway_key=key))) as leg:
                await leg.evidence()

    with pytest.raises(TargetError):
        asyncio.run(run())
