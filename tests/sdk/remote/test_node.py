"""The cloud leg against real servers on loopback: honest nodes and absent ones."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest

from leanto.clock import Clock
from leanto.errors import CloudUnavailable, DeadlineExceeded, Fault, LeantoError, PromptRefused, TargetError
from leanto.remote import RemoteRequest, RemoteTarget, Tls
from leanto.remote.sealed_session import RTT_EXPIRES_S
from leanto.remote.target import dial_target
from leanto_cloud.development import DevelopmentAttester
from nodes import MODEL_ID, REQUEST, EchoEngine, collect, fault_of, open_leg, running_node, text_of


def test_text_token_ids_and_logprobs_come_back() -> None:
    async def run() -> None:
        async with running_node() as node, open_leg(node.target) as leg:
            chunks = await collect(leg, REQUEST)
            assert text_of(chunks) == " red green blue red"
            assert [chunk.token_ids for chunk in chunks] == [(0,), (1,), (2,), (3,), ()]
            assert [chunk.logprobs for chunk in chunks[:-1]] == [(-0.5,)] * 4
            assert [chunk.finish_reason for chunk in chunks] == [None] * 4 + ["length"]
            assert leg.model_id == MODEL_ID

    asyncio.run(run())


def test_every_parameter_reaches_the_engine() -> None:
    request = RemoteRequest("a b", "text", "pre", 3, 0.5, 0.75, 7, 2**40, ("stop", "end"), 20.0)
    engine = EchoEngine()

    async def run() -> None:
        async with running_node(engine) as node, open_leg(node.target) as leg:
            await collect(leg, request)

    asyncio.run(run())
    (seen,) = engine.requests
    assert (seen.prompt, seen.task, seen.prefix, seen.max_tokens) == ("a b", "text", "pre", 3)
    assert (seen.temperature, seen.top_p, seen.top_k, seen.seed, seen.stop) == (0.5, 0.75, 7, 2**40, ("stop", "end"))


def test_evidence_is_fetched_once_and_bytes_are_counted() -> None:
    async def run() -> None:
        async with running_node() as node, open_leg(node.target) as leg:
            first, second = leg.generate(REQUEST), leg.generate(REQUEST)
            async for _ in first:
                pass
            async for _ in second:
                pass
            assert first.bytes_sent > second.bytes_sent > 1168 + 272
            assert first.bytes_received > second.bytes_received + 1216
            assert second.bytes_received >= 2 * 144  # what is ready together leaves together

    asyncio.run(run())


def test_evidence_is_fetched_again_once_it_has_expired() -> None:
    now = [1_800_000_000.0]

    async def run() -> None:
        clock = Clock(wall=lambda: now[0])
        async with running_node(lifetime_s=60, now_s=lambda: now[0]) as node, open_leg(node.target, clock=clock) as leg:
            first = await leg.evidence()
            assert (await leg.evidence()).evidence_digest == first.evidence_digest
            now[0] += 61
            assert (await leg.evidence()).evidence_digest != first.evidence_digest

    asyncio.run(run())


def test_a_round_trip_expires_and_is_measured_again_where_it_is_wanted() -> None:
    now = [1000.0]

    async def run() -> None:
        clock = Clock(monotonic=lambda: now[0])
        async with running_node() as node, open_leg(node.target, clock=clock) as leg:

            async def received(request: RemoteRequest) -> int:
                call = leg.generate(request)
                async for _ in call:
                    pass
                return call.bytes_received

            assert leg.rtt_ms is None
            with_evidence = await received(REQUEST)
            assert leg.rtt_ms == 0.0
            now[0] += RTT_EXPIRES_S
            assert leg.rtt_ms is None
            assert await received(REQUEST) < with_evidence - 1216
            assert leg.rtt_ms is None
            assert await received(replace(REQUEST, wants_rtt=True)) > with_evidence - 1216
            assert leg.rtt_ms == 0.0
            assert await received(replace(REQUEST, wants_rtt=True)) < with_evidence - 1216

    asyncio.run(run())


def test_a_node_that_lost_its_key_is_asked_for_evidence_again() -> None:
    async def run() -> None:
        async with running_node() as node, open_leg(node.target) as leg:
            await collect(leg, REQUEST)
            node.identity._keys.clear()  # what a restart does
            assert text_of(await collect(leg, REQUEST)) == " red green blue red"

    asyncio.run(run())


def test_closing_a_call_stops_the_engine() -> None:
    engine = EchoEngine()

    async def run() -> None:
        async with running_node(engine) as node, open_leg(node.target) as leg:
            call = leg.generate(replace(REQUEST, max_tokens=100_000))
            await anext(call)
            await call.aclose()
            await asyncio.wait_for(engine.stopped.wait(), 10)
            assert engine.running == 0
            assert engine.produced < 100_000

    asyncio.run(run())


def test_a_deadline_ends_the_call_and_stops_the_engine() -> None:
    engine = EchoEngine(gate=asyncio.Event())

    async def run() -> None:
        async with running_node(engine) as node:
            assert isinstance(await fault_of(node.target, replace(REQUEST, timeout_s=0.3)), DeadlineExceeded)
            await asyncio.wait_for(engine.stopped.wait(), 10)

    asyncio.run(run())


def test_nothing_is_asked_once_the_time_is_up() -> None:
    assert isinstance(asyncio.run(fault_of(RemoteTarget("127.0.0.1:1", root()), replace(REQUEST, timeout_s=0.0))), DeadlineExceeded)


def test_an_address_where_nobody_listens_is_a_retryable_fault() -> None:
    fault = asyncio.run(fault_of(RemoteTarget(f"127.0.0.1:{free_port()}", root())))
    assert isinstance(fault, CloudUnavailable)
    assert fault.retryable


def test_a_listener_that_never_answers_ends_with_the_deadline() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        target = RemoteTarget(f"127.0.0.1:{silent.getsockname()[1]}", root())
        fault = asyncio.run(fault_of(target, replace(REQUEST, timeout_s=0.5)))
    assert isinstance(fault, DeadlineExceeded | CloudUnavailable)


@pytest.mark.parametrize(
    "reply", [b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", b"\x00" * 64, b"SSH-2.0-x\r\n"], ids=["http1", "zeros", "ssh"]
)
def test_a_listener_that_speaks_something_else_is_a_typed_fault(reply: bytes) -> None:
    async def run() -> LeantoError:
        async def other(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(24)
            writer.write(reply)
            await writer.drain()
            writer.close()
            await writer.wait_closed()

        server = await asyncio.start_server(other, "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            return await fault_of(RemoteTarget(f"127.0.0.1:{port}", root()), replace(REQUEST, timeout_s=3))

    assert isinstance(asyncio.run(run()), Fault)


@pytest.mark.parametrize("prompt", ["", "   ", "\ud800", "x" * 1_100_000], ids=["empty", "blank", "not text", "huge"])
def test_a_prompt_that_cannot_be_asked_is_the_users_mistake(prompt: str) -> None:
    async def run() -> LeantoError:
        async with running_node() as node:
            return await fault_of(node.target, replace(REQUEST, prompt=prompt))

    fault = asyncio.run(run())
    assert isinstance(fault, PromptRefused)
    assert fault.exit_code == 2


def test_a_task_that_the_model_lacks_is_a_fault_that_will_not_go_away() -> None:
    async def run() -> LeantoError:
        async with running_node() as node:
            return await fault_of(node.target, replace(REQUEST, task="call"))

    fault = asyncio.run(run())
    assert isinstance(fault, CloudUnavailable)
    assert not fault.retryable


def test_after_three_failures_the_node_is_left_alone_until_the_cooldown_has_passed() -> None:
    now = [0.0]

    async def run() -> None:
        target = RemoteTarget(f"127.0.0.1:{free_port()}", root())
        async with open_leg(target, clock=Clock(monotonic=lambda: now[0])) as leg:
            for _ in range(3):
                with pytest.raises(CloudUnavailable, match="cannot be reached"):
                    await collect(leg, REQUEST)
            with pytest.raises(CloudUnavailable, match="next try in 10 s"):
                await collect(leg, REQUEST)
            now[0] += 10.0
            with pytest.raises(CloudUnavailable, match="cannot be reached"):
                await collect(leg, REQUEST)
            with pytest.raises(CloudUnavailable, match="next try"):
                await collect(leg, REQUEST)

    asyncio.run(run())


def test_a_leg_that_is_closed_under_a_call_ends_it_with_a_fault_and_cancels_no_caller() -> None:
    async def run() -> None:
        engine = EchoEngine(gate=asyncio.Event())
        async with running_node(engine) as node, open_leg(node.target) as leg:
            asked = asyncio.create_task(collect(leg, REQUEST))
            await engine.started.wait()
            await leg.close()
            with pytest.raises(CloudUnavailable, match="was closed"):
                await asked
            assert len(engine.requests) == 1

    asyncio.run(run())


class Deaf:
    """A stub whose calls never end, whatever time they are given."""

    async def GetEvidence(self, request: object, *, timeout: float) -> Any:
        await asyncio.Event().wait()

    def Generate(self, request: object, *, timeout: float) -> Any:
        return self

    def cancel(self) -> None:
        pass

    async def __aiter__(self) -> Any:
        await asyncio.Event().wait()
        yield


@pytest.mark.parametrize("verified", [True, False], ids=["its answer", "its evidence"])
def test_the_leg_itself_ends_a_call_whose_transport_does_not(verified: bool) -> None:
    async def run() -> None:
        async with running_node() as node, open_leg(node.target) as leg:
            if verified:
                await leg.evidence()
            leg._open_session()._stub = Deaf()
            async with asyncio.timeout(10):
                with pytest.raises(DeadlineExceeded):
                    await collect(leg, replace(REQUEST, timeout_s=0.2))
                if not verified:
                    with pytest.raises(DeadlineExceeded):
                        await leg.evidence(timeout_s=0.2)

    asyncio.run(run())


@pytest.mark.parametrize(
    ("change", "error"),
    [({"prompt": " "}, PromptRefused), ({"task": "call"}, CloudUnavailable), ({"timeout_s": 0.0}, DeadlineExceeded)],
    ids=["refused", "impossible", "no time"],
)
def test_a_request_that_fails_by_itself_does_not_count_against_the_node(change: dict[str, Any], error: type[LeantoError]) -> None:
    async def run() -> None:
        async with running_node() as node, open_leg(node.target) as leg:
            await leg.evidence()
            for _ in range(4):
                with pytest.raises(error):
                    await collect(leg, replace(REQUEST, **change))
            assert await collect(leg, REQUEST)

    asyncio.run(run())


def test_a_caller_that_stops_waiting_when_the_time_is_up_counts_as_a_failure() -> None:
    now = [0.0]

    async def run() -> None:
        engine = EchoEngine(gate=asyncio.Event())
        async with running_node(engine) as node, open_leg(node.target, clock=Clock(monotonic=lambda: now[0])) as leg:
            for _ in range(3):
                engine.started.clear()
                waiting = asyncio.create_task(collect(leg, REQUEST))
                await engine.started.wait()
                now[0] += REQUEST.timeout_s
                waiting.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await waiting
            with pytest.raises(CloudUnavailable, match="next try"):
                await collect(leg, REQUEST)

    asyncio.run(run())


@pytest.mark.parametrize(
    "address",
    ["", "127.0.0.1", ":80", "127.0.0.1:0", "127.0.0.1:99999", "127.0.0.1:http", "unix:/tmp/x:1", "dns:///a:1", "http://a:80", "a b:1"],
)
def test_an_address_that_is_not_host_and_port_is_refused(address: str) -> None:
    with pytest.raises(TargetError):
        dial_target(RemoteTarget(address, root()))


@pytest.mark.parametrize(
    "address", ["192.0.2.1:443", "node.example:443", "127.0.0.1.example:443", "localhost.example:80", "[2001:db8::1]:443"]
)
def test_plaintext_goes_to_no_other_machine(address: str) -> None:
    with pytest.raises(TargetError, match="plaintext"):
        dial_target(RemoteTarget(address, root()))
    assert dial_target(RemoteTarget(address, root(), Tls()))


@pytest.mark.parametrize(
    ("address", "dial"),
    [("127.0.0.1:80", "ipv4:127.0.0.1:80"), ("localhost:80", "ipv4:127.0.0.1:80"), ("[::1]:80", "ipv6:[::1]:80")],
)
def test_a_loopback_address_is_dialled_as_it_is(address: str, dial: str) -> None:
    assert dial_target(RemoteTarget(address, root())) == dial


@pytest.mark.parametrize("bad", [None, "", "not a root"], ids=repr)
def test_a_target_without_a_root_is_the_users_mistake(bad: str | None) -> None:
    assert isinstance(asyncio.run(fault_of(RemoteTarget("127.0.0.1:1", bad))), TargetError)


def test_root_certificates_that_cannot_be_read_are_the_users_mistake() -> None:
    target = RemoteTarget("127.0.0.1:1", root(), Tls("/nonexistent/roots.pem"))
    assert isinstance(asyncio.run(fault_of(target)), TargetError)


def test_a_leg_can_be_made_without_importing_grpc() -> None:
    code = (
        "import sys; from leanto.remote import *; RemoteLeg(RemoteTarget('127.0.0.1:1', 'x'));"
        "assert not {'grpc', 'leanto_wire', 'torch'} & set(sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def root() -> str:
    return DevelopmentAttester().root_base64


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
