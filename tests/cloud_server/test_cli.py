"""`leanto-cloud serve` as a process: ready file, signals, exit codes, one-line errors."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
from dataclasses import replace
from pathlib import Path

import pytest

import leanto_edge
from certificates import Authority
from leanto.errors import CloudUnavailable, LeantoError
from leanto.remote import RemoteChunk, RemoteRequest, RemoteTarget, Tls
from leanto_cloud.cli import main
from nodes import MODEL_ID, NodeProcess, collect, open_leg, text_of

REQUEST = RemoteRequest("red green", max_tokens=3, timeout_s=30)


async def ask(target: RemoteTarget) -> str:
    async with open_leg(target) as leg:
        return text_of(await collect(leg, REQUEST))


def test_the_ready_file_says_how_to_reach_the_node_and_goes_with_it(tmp_path: Path) -> None:
    with NodeProcess(tmp_path, "--development") as node:
        ready = node.ready()
        assert ready["model_id"] == MODEL_ID
        assert ready["pid"] == node.process.pid
        assert asyncio.run(ask(node.target())) == " red green red"
        node.process.send_signal(signal.SIGINT)
        assert node.process.wait(30) == 0
        assert not node.serving


def test_a_node_told_to_end_finishes_its_answer_first(tmp_path: Path) -> None:
    async def run(node: NodeProcess) -> list[RemoteChunk]:
        async with open_leg(node.target()) as leg:
            call = leg.generate(replace(REQUEST, max_tokens=2000))
            chunks = [await anext(call)]
            node.process.terminate()
            return chunks + [chunk async for chunk in call]

    with NodeProcess(tmp_path, "--development") as node:
        chunks = asyncio.run(run(node))
        assert node.process.wait(30) == 0
    assert len(chunks) == 2001
    assert chunks[-1].finish_reason == "length"


def test_a_node_killed_in_mid_answer_is_a_retryable_fault(tmp_path: Path) -> None:
    async def run(node: NodeProcess) -> LeantoError:
        async with open_leg(node.target()) as leg:
            call = leg.generate(replace(REQUEST, max_tokens=1_000_000))
            await anext(call)
            node.process.kill()
            with pytest.raises(LeantoError) as caught:
                async for _ in call:
                    pass
            return caught.value

    with NodeProcess(tmp_path, "--development") as node:
        fault = asyncio.run(run(node))
    assert isinstance(fault, CloudUnavailable)
    assert fault.retryable


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="limits are read from /proc")
def test_a_node_leaves_no_core_dump(tmp_path: Path) -> None:
    with NodeProcess(tmp_path, "--development") as node:
        pid = node.ready()["pid"]
        limits = Path(f"/proc/{pid}/limits").read_text()
    (core,) = [line for line in limits.splitlines() if line.startswith("Max core file size")]
    assert core.split()[4:6] == ["0", "0"]


def test_the_native_engine_serves_a_model_folder(tmp_path: Path, stories260k: Path) -> None:
    golden = json.loads((stories260k / "golden.json").read_text())["greedy_text"]

    async def run(target: RemoteTarget) -> str:
        async with open_leg(target) as leg:
            return text_of(await collect(leg, replace(REQUEST, prompt="Once upon a time", max_tokens=20)))

    with NodeProcess(tmp_path, "--development", "--model", str(stories260k), engine=None) as node:
        text = asyncio.run(run(node.target()))
        assert node.ready()["model_id"].startswith("stories260K@")
    assert text
    assert golden.startswith(f"<s> Once upon a time{text}")


@pytest.mark.skipif(not leanto_edge.embedded_large().is_dir(), reason="this checkout has no embedded pocket-large")
def test_without_a_model_it_serves_the_embedded_one_which_makes_calls(tmp_path: Path) -> None:
    async def run(target: RemoteTarget) -> str:
        async with open_leg(target) as leg:
            return text_of(await collect(leg, replace(REQUEST, prompt="wake me at half past six", task="call", max_tokens=64)))

    with NodeProcess(tmp_path, "--development", engine=None) as node:
        call = json.loads(asyncio.run(run(node.target())))
    assert set(call) == {"intent", "slots"}


def test_tls_reaches_the_node_and_plaintext_does_not(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    certificate, key = authority.issue("node", "127.0.0.1")
    with NodeProcess(tmp_path, "--development", "--tls-certificate", str(certificate), "--tls-key", str(key)) as node:
        plain = node.target()
        assert asyncio.run(ask(replace(plain, tls=Tls(authority.file)))) == " red green red"
        with pytest.raises(CloudUnavailable):
            asyncio.run(ask(plain))
        with pytest.raises(CloudUnavailable):
            asyncio.run(ask(replace(plain, tls=Tls(authority.file, server_name="other.invalid"))))


def failing(tmp_path: Path, *arguments: str, code: int = 2, engine: str | None = "EchoEngine()") -> str:
    with NodeProcess(tmp_path, *arguments, engine=engine) as node:
        assert node.process.wait(60) == code
        assert not node.serving
    written = node.written()
    assert "Traceback" not in written
    return written


def test_without_an_attester_it_does_not_serve(tmp_path: Path) -> None:
    written = failing(tmp_path)
    assert written.startswith("leanto-cloud: no attester")
    assert written.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [("--model", "/nonexistent"), ("--engine", "transformers"), ("--engine", "transformers", "--model", "/nonexistent")],
    ids=["no folder", "no model", "no model folder"],
)
def test_a_model_that_is_not_there_is_one_line(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    assert failing(tmp_path, "--development", *arguments, engine=None).count("\n") == 1


def test_an_address_in_use_is_one_line(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        written = failing(tmp_path, "--development", "--port", str(taken.getsockname()[1]))
    assert "cannot listen on" in written
    assert written.count("\n") == 1


def test_plaintext_is_served_on_this_machine_only(tmp_path: Path) -> None:
    assert "--tls-certificate" in failing(tmp_path, "--development", "--host", "0.0.0.0")


@pytest.mark.parametrize("content", [None, b"not a key"], ids=["missing", "garbage"])
def test_a_certificate_that_cannot_be_used_is_one_line(tmp_path: Path, content: bytes | None) -> None:
    for name in ("a.pem", "b.pem"):
        if content is not None:
            (tmp_path / name).write_bytes(content)
    written = failing(tmp_path, "--development", "--tls-certificate", str(tmp_path / "a.pem"), "--tls-key", str(tmp_path / "b.pem"))
    assert written.count("\n") == 1


def test_an_engine_that_cannot_start_is_a_fault_without_a_traceback(tmp_path: Path) -> None:
    assert failing(tmp_path, "--development", engine="1 / 0", code=1).startswith("leanto-cloud: the node failed: ZeroDivisionError")


def test_a_ready_file_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    written = failing(tmp_path, "--development", "--ready-file", str(tmp_path / "no" / "ready.json"))
    assert "cannot write the ready file" in written
    assert not list(tmp_path.glob(".ready-*"))


@pytest.mark.parametrize("arguments", [["serve", "--port", "x"], ["serve", "--running", "0"], ["fly"], []], ids=str)
def test_a_mistyped_command_exits_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "usage: leanto-cloud" in capsys.readouterr().err
