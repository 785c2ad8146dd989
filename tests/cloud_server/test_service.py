"""The service over real sockets: health, reflection, load, refusals, draining, and answers that are not streamed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import grpc
import pytest
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from leanto.errors import CloudUnavailable
from leanto.remote import RemoteRequest
from leanto_cloud.errors import CloudError
from leanto_cloud.server import SERVICE, Limits
from leanto_wire.v1.inference_pb2 import TASK_TEXT, GenerateError, GenerateRequest, GenerateResponse, SamplingParams, TokenizedInput
from leanto_wire.v1.private_compute_pb2_grpc import PrivateComputeStub
from nodes import MODEL_ID, EchoEngine, Node, collect, open_leg, running_node, seal_by_hand, text_of

REQUEST = RemoteRequest("red green blue", max_tokens=4, timeout_s=20)
TEXT = GenerateRequest(text="red green blue", task=TASK_TEXT, sampling_params=SamplingParams(max_tokens=2, logprobs=0))


@asynccontextmanager
async def stub_of(node: Node) -> AsyncIterator[Any]:
    async with aio.insecure_channel(node.address) as channel:
        yield PrivateComputeStub(channel)


async def ask(node: Node, message: bytes) -> list[GenerateResponse]:
    """The opened responses to `message`, sealed by hand."""
    async with open_leg(node.target) as leg, stub_of(node) as stub:
        claims = await leg.evidence()
        outer, opener = seal_by_hand(claims, message)
        call = stub.Generate(outer, timeout=20)
        responses = [GenerateResponse.FromString(opener.open(chunk.ciphertext, final=chunk.final)) async for chunk in call]
        opener.close()
        return responses


def asked(message: bytes, engine: EchoEngine | None = None) -> list[GenerateResponse]:
    async def run() -> list[GenerateResponse]:
        async with running_node(engine) as node:
            return await ask(node, message)

    return asyncio.run(run())


def changed(**changes: Any) -> bytes:
    request = GenerateRequest()
    request.CopyFrom(TEXT)
    request.MergeFrom(GenerateRequest(**changes))
    return request.SerializeToString()


def test_an_answer_that_is_not_streamed_comes_whole() -> None:
    (response,) = asked(TEXT.SerializeToString())
    complete = response.complete
    assert complete.text == " red green"
    assert list(complete.output_ids) == [0, 1]
    assert list(complete.output_logprobs.token_logprobs) == [-0.5, -0.5]
    assert (complete.prompt_tokens, complete.completion_tokens, complete.finish_reason, complete.model_id) == (3, 2, "length", MODEL_ID)


def test_logprobs_come_only_where_they_were_asked_for() -> None:
    request = GenerateRequest(text="a", task=TASK_TEXT, stream=True, sampling_params=SamplingParams(max_tokens=1))
    chunk, _ = asked(request.SerializeToString())
    assert not chunk.chunk.HasField("output_logprobs")


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (GenerateRequest(text="a").SerializeToString(), GenerateError.CODE_INVALID_ARGUMENT),
        (GenerateRequest(task=TASK_TEXT).SerializeToString(), GenerateError.CODE_INVALID_ARGUMENT),
        (changed(sampling_params=SamplingParams(temperature=float("nan"))), GenerateError.CODE_INVALID_ARGUMENT),
        (changed(sampling_params=SamplingParams(top_p=1.5)), GenerateError.CODE_INVALID_ARGUMENT),
        (changed(sampling_params=SamplingParams(seed=-1)), GenerateError.CODE_INVALID_ARGUMENT),
        (changed(sampling_params=SamplingParams(stop=[""])), GenerateError.CODE_INVALID_ARGUMENT),
        (changed(sampling_params=SamplingParams(logprobs=5)), GenerateError.CODE_UNIMPLEMENTED),
        (changed(tokenized=TokenizedInput(input_ids=[1, 2])), GenerateError.CODE_UNIMPLEMENTED),
    ],
)
def test_a_request_that_cannot_be_served_is_refused_under_the_seal(message: bytes, code: int) -> None:
    (response,) = asked(message)
    assert response.error.code == code
    assert response.error.message


def test_an_engine_without_logprobs_says_so() -> None:
    (response,) = asked(TEXT.SerializeToString(), EchoEngine(logprobs=False))
    assert response.error.code == GenerateError.CODE_UNIMPLEMENTED


def test_health_and_reflection_answer() -> None:
    async def run() -> None:
        async with running_node(reflection=True) as node, aio.insecure_channel(node.address) as channel:
            health = health_pb2_grpc.HealthStub(channel)
            for service in ("", SERVICE):
                assert (await health.Check(health_pb2.HealthCheckRequest(service=service))).status == health_pb2.HealthCheckResponse.SERVING
            reflection = reflection_pb2_grpc.ServerReflectionStub(channel)
            call = reflection.ServerReflectionInfo(iter([reflection_pb2.ServerReflectionRequest(list_services="")]))
            names = {service.name async for reply in call for service in reply.list_services_response.service}
            assert {SERVICE, "grpc.health.v1.Health"} <= names

    asyncio.run(run())


def test_more_requests_than_fit_are_refused_at_once() -> None:
    engine = EchoEngine(gate=asyncio.Event())

    async def run() -> None:
        async with running_node(engine, limits=Limits(running=1, waiting=1, drain_s=0.0)) as node, open_leg(node.target) as leg:
            await leg.evidence()
            held = [asyncio.create_task(collect(leg, REQUEST)) for _ in range(2)]
            while node.server.admission.present < 2:
                await asyncio.sleep(0.001)
            with pytest.raises(CloudUnavailable, match="busy") as caught:
                await collect(leg, REQUEST)
            assert caught.value.retryable
            assert engine._gate
            engine._gate.set()
            assert [text_of(chunks) for chunks in await asyncio.gather(*held)] == [" red green blue red"] * 2

    asyncio.run(run())


def test_draining_finishes_what_runs_and_refuses_the_rest() -> None:
    engine = EchoEngine(gate=asyncio.Event())

    async def run() -> None:
        async with running_node(engine, limits=Limits(drain_s=20.0)) as node, open_leg(node.target) as leg:
            held = asyncio.create_task(collect(leg, REQUEST))
            await engine.started.wait()
            stopping = asyncio.create_task(node.server.stop())
            await asyncio.sleep(0)
            async with open_leg(node.target) as late:
                with pytest.raises(CloudUnavailable):
                    await collect(late, REQUEST)
            assert engine._gate
            engine._gate.set()
            assert text_of(await held) == " red green blue red"
            await asyncio.wait_for(stopping, 20)

    asyncio.run(run())


def test_an_engine_that_fails_gives_a_constant_status() -> None:
    async def run() -> tuple[grpc.StatusCode, str | None]:
        async with running_node(EchoEngine(fails_at=0)) as node:
            with pytest.raises(aio.AioRpcError) as caught:
                await ask(node, TEXT.SerializeToString())
            return caught.value.code(), caught.value.details()

    assert asyncio.run(run()) == (grpc.StatusCode.INTERNAL, "the node failed; nothing about the request was kept")


def test_two_requests_run_at_once_and_do_not_mix() -> None:
    async def run() -> None:
        async with running_node() as node, open_leg(node.target) as leg:
            answers = await asyncio.gather(*(collect(leg, replace(REQUEST, prompt=f"w{i}")) for i in range(6)))
            assert [text_of(chunks) for chunks in answers] == [f" w{i}" * 4 for i in range(6)]

    asyncio.run(run())


def test_a_grpc_that_ends_by_itself_ends_the_node() -> None:
    async def run() -> None:
        async with running_node() as node:
            serving = asyncio.create_task(node.server.serve_until(asyncio.Event()))
            await asyncio.sleep(0)
            await node.server._server.stop(0)
            with pytest.raises(CloudError, match="by itself"):
                await asyncio.wait_for(serving, 20)

    asyncio.run(run())


def test_health_is_watched_and_says_when_the_node_drains() -> None:
    async def run() -> list[int]:
        async with running_node(limits=Limits(drain_s=0.5)) as node, aio.insecure_channel(node.address) as channel:
            watching = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(service=SERVICE))
            first = await watching.read()
            stopping = asyncio.create_task(node.server.stop())
            second = await watching.read()
            watching.cancel()
            await stopping
            return [first.status, second.status]

    assert asyncio.run(run()) == [health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING]


def test_reflection_is_off_unless_asked_for() -> None:
    async def run() -> None:
        async with running_node() as node, aio.insecure_channel(node.address) as channel:
            call = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(
                iter([reflection_pb2.ServerReflectionRequest(list_services="")])
            )
            with pytest.raises(aio.AioRpcError):
                await call.read()

    asyncio.run(run())


@pytest.mark.parametrize("engine", [EchoEngine(gate=asyncio.Event()), EchoEngine()], ids=["a slow engine", "a slow reader"])
def test_an_answer_that_takes_too_long_is_ended(engine: EchoEngine) -> None:
    message = changed(stream=True, sampling_params=SamplingParams(max_tokens=10_000_000))

    async def run() -> grpc.StatusCode:
        async with running_node(engine, limits=Limits(answer_s=0.2, drain_s=0.0)) as node:
            with pytest.raises(aio.AioRpcError) as caught:
                await ask(node, message)
            await asyncio.wait_for(engine.stopped.wait(), 20)
            assert node.server.admission.present == 0
            return caught.value.code()

    assert asyncio.run(run()) is grpc.StatusCode.DEADLINE_EXCEEDED


def test_a_request_that_waits_too_long_is_ended() -> None:
    engine = EchoEngine(gate=asyncio.Event())

    async def run() -> None:
        async with running_node(engine, limits=Limits(running=1, answer_s=0.2, drain_s=0.0)) as node:
            done = await asyncio.gather(*(ask(node, TEXT.SerializeToString()) for _ in range(3)), return_exceptions=True)
            assert {error.code() for error in done if isinstance(error, aio.AioRpcError)} == {grpc.StatusCode.DEADLINE_EXCEEDED}
            assert len(done) == 3
            assert node.server.admission.present == 0

    asyncio.run(run())
    assert len(engine.requests) <= 2
