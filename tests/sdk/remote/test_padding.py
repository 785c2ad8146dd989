"""Padding as a client asks for it: every level brings the same answer, and a node that leaves the level is caught."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import pytest

from leanto.errors import EvidenceRefused, LeantoError, PolicyError, PromptRefused, ProtocolFault
from leanto.policy import parse_policy
from leanto.remote import RemoteLeg, RemoteRequest, RemoteTarget
from leanto.remote.configured import remote_target
from leanto.remote.sealed_session import inner_message
from leanto_cloud.development import DevelopmentAttester
from leanto_cloud.identity import Identity
from leanto_cloud.server import Limits, Server
from leanto_wire.frame import Padding
from leanto_wire.records import RecordWriter
from leanto_wire.seal import Sealer
from leanto_wire.v1.inference_pb2 import GenerateComplete, GenerateResponse
from leanto_wire.v1.private_compute_pb2 import SealedChunk, SealedRequest
from nodes import MODEL_ID, RELEASE, EchoEngine, collect, lying_node, open_leg, running_node, text_of

REQUEST = RemoteRequest("red green blue", max_tokens=4, timeout_s=20)
CONSTANT = {"padding": "constant", "cadence_ms": 5, "cadence_frames": 4}
LEVELS = [{"padding": "blocks"}, {"padding": "buckets"}, CONSTANT]


def constant(target: RemoteTarget) -> RemoteTarget:
    return replace(target, padding="constant", cadence_ms=5, cadence_frames=4)


@pytest.mark.parametrize("level", LEVELS, ids=lambda level: level["padding"])
def test_the_answer_is_the_same_at_every_level(level: dict[str, object]) -> None:
    async def run() -> None:
        async with running_node() as node, open_leg(replace(node.target, **level)) as leg:  # type: ignore[arg-type]
            chunks = await collect(leg, REQUEST)
            assert text_of(chunks) == " red green blue red"
            assert [chunk.finish_reason for chunk in chunks] == [None] * 4 + ["length"]

    asyncio.run(run())


async def bytes_of(leg: RemoteLeg, request: RemoteRequest) -> tuple[int, int]:
    call = leg.generate(request)
    async for _ in call:
        pass
    return call.bytes_sent, call.bytes_received


def test_a_constant_answer_and_request_have_one_size_whatever_they_say() -> None:
    async def run() -> set[tuple[int, int]]:
        async with running_node() as node, open_leg(constant(node.target)) as leg:
            await leg.evidence()
            longer = RemoteRequest("a much longer prompt " * 50, max_tokens=40, timeout_s=20)
            return {await bytes_of(leg, request) for request in (REQUEST, longer)}

    ((sent, received),) = asyncio.run(run())
    assert sent > 16384
    assert received == 4 * (1024 + 16 + 3 + 5) + 2  # `final` takes two bytes of protobuf


def test_a_refusal_under_the_seal_looks_like_an_answer() -> None:
    async def run() -> int:
        async with running_node() as node, open_leg(constant(node.target)) as leg:
            await leg.evidence()
            call = leg.generate(replace(REQUEST, prompt=" "))
            with pytest.raises(PromptRefused, match="empty"):
                async for _ in call:
                    pass
            return call.bytes_received

    assert asyncio.run(run()) == 4 * (1024 + 16 + 3 + 5) + 2


def test_a_prompt_that_no_frame_of_the_level_holds_is_refused_here() -> None:
    around = len(inner_message(replace(REQUEST, prompt="x" * (1 << 19)), Padding.BLOCKS, None)) - (1 << 19)
    longest = replace(REQUEST, prompt="x" * ((1 << 20) - around))
    inner_message(longest, Padding.BLOCKS, None)
    with pytest.raises(PromptRefused, match="too long"):
        inner_message(longest, Padding.BUCKETS, None)


END = GenerateResponse(complete=GenerateComplete(finish_reason="stop", model_id=MODEL_ID)).SerializeToString()


def frames(sealer: Sealer, messages: list[bytes], count: int, *, last: int | None = None) -> list[SealedChunk]:
    """`count` frames of the messages and dummies, the last one final."""
    records = RecordWriter()
    for message in messages:
        records.add(message)
    last = count - 1 if last is None else last
    return [SealedChunk(ciphertext=sealer.seal(records.take(), final=i == last), final=i == last) for i in range(count)]


def other_level(sealer: Sealer) -> list[SealedChunk]:
    sealer.padding = Padding.BLOCKS
    return [SealedChunk(ciphertext=sealer.seal(END, final=True), final=True)]


LIES: dict[str, Callable[[Sealer], list[SealedChunk]]] = {
    "an end between two multiples": lambda sealer: frames(sealer, [END], 3),
    "no end in the last frame": lambda sealer: frames(sealer, [], 4),
    "two ends": lambda sealer: frames(sealer, [END, END], 4),
    "an end without a final frame": lambda sealer: frames(sealer, [END], 4, last=9),
    "no response": lambda sealer: frames(sealer, [b"\xff\xff"], 4),
    "half a record": lambda sealer: [SealedChunk(ciphertext=sealer.seal(b"\0\0\0\x09half", final=False))],
    "another level": other_level,
}


@pytest.mark.parametrize("name", LIES)
def test_a_node_that_leaves_the_level_is_caught(name: str) -> None:
    async def run() -> LeantoError:
        async def answer(identity: Identity, request: SealedRequest) -> AsyncIterator[SealedChunk]:
            for part in LIES[name](identity.open(request)[1]):
                yield part

        async with lying_node(answer=answer) as target, open_leg(constant(target)) as leg:
            with pytest.raises(LeantoError) as caught:
                await collect(leg, REQUEST)
        return caught.value

    assert isinstance(asyncio.run(run()), ProtocolFault)


def test_an_honest_paced_answer_by_hand_is_read() -> None:
    async def run() -> None:
        async def answer(identity: Identity, request: SealedRequest) -> AsyncIterator[SealedChunk]:
            for part in frames(identity.open(request)[1], [END], 8):
                yield part

        async with lying_node(answer=answer) as target, open_leg(constant(target)) as leg:
            assert [chunk.finish_reason for chunk in await collect(leg, REQUEST)] == ["stop"]

    asyncio.run(run())


def test_a_policy_names_level_cadence_and_suites() -> None:
    policy = parse_policy(
        'version = 1\n[targets.cloud]\naddress = "127.0.0.1:1"\npadding = "constant"\n'
        "cadence_ms = 20\ncadence_frames = 8\nsuites = [1, 2]\n"
    )
    target = remote_target(policy.cloud)
    assert target is not None
    assert (target.padding, target.cadence_ms, target.cadence_frames, target.suites) == ("constant", 20, 8, (1, 2))


def test_a_cadence_that_no_answer_could_keep_in_time_is_refused() -> None:
    source = 'version = 1\n[targets.cloud]\naddress = "127.0.0.1:1"\npadding = "constant"\ncadence_frames = 200\n'
    with pytest.raises(PolicyError, match="no answer ends before 10000 ms") as caught:
        parse_policy(source)
    assert caught.value.line == 5


@pytest.mark.parametrize(("suites", "works"), [((2,), True), ((1, 2), True), ((1,), False)], ids=str)
def test_a_node_serves_one_suite_and_a_client_takes_only_those_it_names(suites: tuple[int, ...], works: bool) -> None:
    async def run() -> str:
        engine, attester = EchoEngine(), DevelopmentAttester()
        identity = Identity(attester, release_digest=RELEASE, model_id=MODEL_ID, suite=2)
        server = Server(engine, identity, limits=Limits(drain_s=0.0))
        await server.start()
        try:
            async with open_leg(RemoteTarget(server.address, attester.root_base64, suites=suites)) as leg:
                return text_of(await collect(leg, REQUEST))
        except EvidenceRefused as error:
            return error.claim
        finally:
            await server.stop()

    assert asyncio.run(run()) == (" red green blue red" if works else "key")
