"""Attacks on a running node by a client or a relay, over real sockets. The node must refuse them and go on serving."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from grpc import aio

from leanto.remote import RemoteRequest
from leanto_wire.keys import public_key
from leanto_wire.seal import SUITE, Binding, seal_request
from leanto_wire.v1.inference_pb2 import TASK_TEXT, GenerateRequest, SamplingParams
from leanto_wire.v1.private_compute_pb2 import EvidenceRequest, SealedRequest
from leanto_wire.v1.private_compute_pb2_grpc import PrivateComputeStub
from nodes import EchoEngine, Node, collect, open_leg, running_node

GENERATE = "/leanto.v1.PrivateCompute/Generate"
EVIDENCE = "/leanto.v1.PrivateCompute/GetEvidence"


class Attacker:
    """A channel to a node, and requests sealed as a client would."""

    def __init__(self, node: Node, channel: aio.Channel) -> None:
        self.node = node
        self.channel = channel
        self.stub: Any = PrivateComputeStub(channel)

    async def sealed(self, message: bytes | None = None) -> SealedRequest:
        async with open_leg(self.node.target) as leg:
            claims = await leg.evidence()
        message = message or GenerateRequest(text="a b", task=TASK_TEXT, sampling_params=SamplingParams(max_tokens=2)).SerializeToString()
        sealed, _ = seal_request(message, public_key(claims.public_key), Binding(claims.evidence_digest, claims.release_digest))
        return SealedRequest(
            suite=SUITE, evidence_digest=claims.evidence_digest, encapsulation=sealed.encapsulation, ciphertext=sealed.ciphertext
        )

    async def status(self, request: SealedRequest, **more: Any) -> grpc.StatusCode:
        return await status_of(lambda: drain(self.stub.Generate(request, timeout=20, **more)))

    async def status_of_bytes(self, method: str, raw: bytes, **more: Any) -> grpc.StatusCode:
        if method == GENERATE:
            return await status_of(lambda: drain(self.channel.unary_stream(method)(raw, timeout=20, **more)))
        return await status_of(lambda: self.channel.unary_unary(method)(raw, timeout=20, **more))


async def drain(call: Any) -> None:
    async for _ in call:
        pass


async def status_of(call: Callable[[], Awaitable[Any]]) -> grpc.StatusCode:
    try:
        await call()
    except aio.AioRpcError as error:
        return error.code()
    return grpc.StatusCode.OK


@asynccontextmanager
async def attack(engine: EchoEngine | None = None, options: list[tuple[str, Any]] | None = None) -> AsyncIterator[Attacker]:
    """A node under attack; at the end it must still serve."""
    async with running_node(engine) as node:
        async with aio.insecure_channel(node.address, options=options) as channel:
            yield Attacker(node, channel)
        async with open_leg(node.target) as leg:
            assert await collect(leg, RemoteRequest("still there", max_tokens=1, timeout_s=20))


def status_after(act: Callable[[Attacker], Awaitable[grpc.StatusCode]]) -> grpc.StatusCode:
    async def run() -> grpc.StatusCode:
        async with attack() as attacker:
            return await act(attacker)

    return asyncio.run(run())


def test_a_replayed_request_is_refused() -> None:
    async def act(attacker: Attacker) -> grpc.StatusCode:
        request = await attacker.sealed()
        assert await attacker.status(request) is grpc.StatusCode.OK
        return await attacker.status(request)

    assert status_after(act) is grpc.StatusCode.ALREADY_EXISTS


def test_a_downgraded_suite_is_refused() -> None:
    async def act(attacker: Attacker) -> grpc.StatusCode:
        request = await attacker.sealed()
        request.suite = 0
        return await attacker.status(request)

    assert status_after(act) is grpc.StatusCode.INVALID_ARGUMENT


def test_a_request_rebound_to_other_evidence_is_refused() -> None:
    async def act(attacker: Attacker) -> grpc.StatusCode:
        request = await attacker.sealed()
        request.evidence_digest = bytes(32)
        return await attacker.status(request)

    assert status_after(act) is grpc.StatusCode.FAILED_PRECONDITION


def test_a_request_for_another_node_is_refused() -> None:
    async def act(attacker: Attacker) -> grpc.StatusCode:
        async with attack() as other:
            return await attacker.status(await other.sealed())

    assert status_after(act) is grpc.StatusCode.FAILED_PRECONDITION


@pytest.mark.parametrize("field", ["encapsulation", "ciphertext"])
@pytest.mark.parametrize("raw", [b"", b"x", b"x" * 1168, b"x" * 100_000], ids=["empty", "one", "right size", "long"])
def test_a_field_of_garbage_is_refused(field: str, raw: bytes) -> None:
    async def act(attacker: Attacker) -> grpc.StatusCode:
        request = await attacker.sealed()
        setattr(request, field, raw)
        return await attacker.status(request)

    assert status_after(act) is grpc.StatusCode.INVALID_ARGUMENT


def test_a_seal_around_garbage_is_refused() -> None:
    async def act(attacker: Attacker) -> grpc.StatusCode:
        return await attacker.status(await attacker.sealed(b"\xff\xff\xff"))

    assert status_after(act) is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize("method", [GENERATE, EVIDENCE])
@pytest.mark.parametrize(
    "raw", [b"\xff" * 40, b"\x0a\xff\xff\xff\xff\x0f", b"\x0b" * 20_000], ids=["garbage", "false length", "deep groups"]
)
def test_bytes_that_are_no_message_are_refused(method: str, raw: bytes) -> None:
    assert status_after(lambda attacker: attacker.status_of_bytes(method, raw)) is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize("length", [0, 16, 1000])
def test_a_nonce_of_another_length_is_refused(length: int) -> None:
    raw = EvidenceRequest(nonce=bytes(length)).SerializeToString()
    assert status_after(lambda attacker: attacker.status_of_bytes(EVIDENCE, raw)) is grpc.StatusCode.INVALID_ARGUMENT


def test_an_oversize_message_is_refused() -> None:
    assert status_after(lambda attacker: attacker.status_of_bytes(GENERATE, bytes(3_000_000))) is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_a_compressed_message_is_refused_before_it_grows() -> None:
    async def act(attacker: Attacker) -> grpc.StatusCode:
        return await attacker.status_of_bytes(GENERATE, bytes(900_000), compression=grpc.Compression.Gzip)

    assert status_after(act) in (grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.INTERNAL)


def test_a_header_bomb_is_refused() -> None:
    async def act(attacker: Attacker) -> grpc.StatusCode:
        return await attacker.status_of_bytes(EVIDENCE, b"", metadata=[("bomb", "x" * 60_000)])

    assert status_after(act) is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_an_unknown_method_is_refused() -> None:
    async def act(attacker: Attacker) -> grpc.StatusCode:
        return await attacker.status_of_bytes("/leanto.v1.PrivateCompute/ReadLogs", b"")

    assert status_after(act) is grpc.StatusCode.UNIMPLEMENTED


def test_a_reader_that_does_not_read_stops_the_engine() -> None:
    engine = EchoEngine()
    message = GenerateRequest(text="a " * 2000, task=TASK_TEXT, stream=True, sampling_params=SamplingParams(max_tokens=500_000))

    async def run() -> int:
        async with attack(engine, [("grpc.http2.lookahead_bytes", 1024)]) as attacker:
            call = attacker.stub.Generate(await attacker.sealed(message.SerializeToString()), timeout=60)
            await call.read()
            produced = -1
            while produced != engine.produced:  # until the windows are full and nothing moves any more
                produced = engine.produced
                for _ in range(3000):
                    await asyncio.sleep(0)
            call.cancel()
            await asyncio.wait_for(engine.stopped.wait(), 20)
            return produced

    assert asyncio.run(run()) < 500_000


def test_a_client_that_connects_and_says_nothing_does_not_keep_others_out() -> None:
    async def run() -> None:
        async with attack() as attacker:
            host, port = attacker.node.address.split(":")
            idle = [socket.create_connection((host, int(port))) for _ in range(20)]
            try:
                assert await attacker.status(await attacker.sealed()) is grpc.StatusCode.OK
            finally:
                for connection in idle:
                    connection.close()

    asyncio.run(run())
