"""A random string in prompt and answer must appear in nothing that the node writes or says outside a seal."""

from __future__ import annotations

import asyncio
import logging
import secrets
from dataclasses import replace
from pathlib import Path

import pytest

from leanto.errors import CloudUnavailable, LeantoError, PromptRefused
from leanto.remote import RemoteRequest, RemoteTarget
from nodes import EchoEngine, NodeProcess, collect, open_leg, running_node, text_of

REQUEST = RemoteRequest("", max_tokens=3, timeout_s=30)


@pytest.fixture
def canary() -> str:
    return f"canary{secrets.token_hex(12)}"


async def ask(target: RemoteTarget, canary: str, **changes: object) -> str | LeantoError:
    request = replace(REQUEST, **({"prompt": canary} | changes))  # type: ignore[arg-type]
    async with open_leg(target) as leg:
        try:
            return text_of(await collect(leg, request))
        except LeantoError as error:
            return error


async def cancelled(target: RemoteTarget, canary: str) -> None:
    async with open_leg(target) as leg:
        call = leg.generate(replace(REQUEST, prompt=canary, max_tokens=100_000))
        await anext(call)
        await call.aclose()


async def all_kinds(target: RemoteTarget, canary: str) -> list[str | LeantoError]:
    """Normal, refused, impossible, with parameters out of range, and cancelled requests."""
    outcomes = [
        await ask(target, canary),
        await ask(target, canary, task="call", prefix=canary),
        await ask(target, canary, task="call"),
        await ask(target, canary, temperature=-1.0),
        await ask(target, canary, stop=(canary, "")),
    ]
    await cancelled(target, canary)
    return outcomes


def assert_nowhere(canary: str, node: NodeProcess) -> None:
    """In no file that lies where the node could write, its stdout and stderr among them."""
    assert [name for name, content in node.files().items() if canary.encode() in content or canary in name] == []


def test_a_node_over_every_kind_of_request_writes_no_canary(tmp_path: Path, canary: str) -> None:
    with NodeProcess(tmp_path, "--development") as node:
        outcomes = asyncio.run(all_kinds(node.target(), canary))
        node.process.terminate()
        assert node.process.wait(30) == 0
    assert outcomes[0] == f" {canary}" * 3
    assert [type(outcome) for outcome in outcomes[1:]] == [PromptRefused, CloudUnavailable, PromptRefused, PromptRefused]
    assert "serving" in node.written()
    assert_nowhere(canary, node)


def test_a_node_whose_engine_leaks_everywhere_writes_no_canary(tmp_path: Path, canary: str) -> None:
    with NodeProcess(tmp_path, "--development", engine="LeakyEngine()") as node:
        outcome = asyncio.run(ask(node.target(), canary))
        node.process.terminate()
        assert node.process.wait(30) == 0
    assert isinstance(outcome, CloudUnavailable)
    assert canary not in str(outcome)
    assert_nowhere(canary, node)
    written = node.written()
    expected = ("(message withheld)", "uncaught in a thread: ValueError", "lost task: ValueError", "unraisable: ValueError")
    assert [trace for trace in (*expected, "a call failed: RuntimeError") if trace not in written] == []


def test_the_native_engine_writes_no_canary(tmp_path: Path, canary: str, stories260k: Path) -> None:
    with NodeProcess(tmp_path, "--development", "--model", str(stories260k), engine=None) as node:
        outcomes = asyncio.run(all_kinds(node.target(), canary))
        asyncio.run(ask(node.target(), canary * 1000))
        node.process.terminate()
        assert node.process.wait(30) == 0
    assert isinstance(outcomes[0], str)
    assert_nowhere(canary, node)


@pytest.mark.parametrize("fails_at", [0, 1, 2])
def test_an_exception_with_the_prompt_reaches_neither_status_nor_log(fails_at: int, canary: str, caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> str | LeantoError:
        async with running_node(EchoEngine(fails_at=fails_at)) as node:
            return await ask(node.target, canary)

    with caplog.at_level(logging.DEBUG):
        outcome = asyncio.run(run())
    assert isinstance(outcome, CloudUnavailable)
    assert canary not in str(outcome)
    assert "RuntimeError" in caplog.text
    assert canary not in caplog.text


def test_what_travels_holds_no_canary(canary: str) -> None:
    seen: list[bytes] = []

    async def tap(port: int) -> asyncio.Server:
        async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            there_reader, there_writer = await asyncio.open_connection("127.0.0.1", port)
            await asyncio.gather(copy(reader, there_writer), copy(there_reader, writer))

        async def copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            while data := await source.read(65536):
                seen.append(data)
                sink.write(data)
                await sink.drain()
            sink.close()
            await sink.wait_closed()

        return await asyncio.start_server(carry, "127.0.0.1", 0)

    async def run() -> str | LeantoError:
        async with running_node() as node, await tap(int(node.address.rsplit(":", 1)[1])) as server:
            return await ask(replace(node.target, address=f"127.0.0.1:{server.sockets[0].getsockname()[1]}"), canary)

    assert asyncio.run(run()) == f" {canary}" * 3
    assert sum(map(len, seen)) > 3000
    assert canary.encode() not in b"".join(seen)
