"""`leanto-cloud serve --recycle-after`: workers are replaced without a failed request, and when they die; keys go with them."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import time
from dataclasses import replace
from pathlib import Path

import pytest

from leanto.remote import RemoteRequest, RemoteTarget
from leanto_cloud.errors import ConfigurationError
from leanto_cloud.supervisor import hold_port
from nodes import NodeProcess, collect, open_leg, text_of

REQUEST = RemoteRequest("red green", max_tokens=3, timeout_s=30)


def wait_for(condition: str, node: NodeProcess, count: int = 1) -> None:
    until = time.monotonic() + 30
    while node.written().count(condition) < count:
        assert time.monotonic() < until, f"no {condition!r} in {node.written()}"
        time.sleep(0.02)


def end(node: NodeProcess) -> None:
    node.process.terminate()
    assert node.process.wait(30) == 0
    assert not node.serving


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


async def digest(target: RemoteTarget) -> bytes:
    async with open_leg(target) as leg:
        return (await leg.evidence()).evidence_digest


def test_workers_are_replaced_under_load_and_no_request_fails(tmp_path: Path) -> None:
    async def client(node: NodeProcess, name: str) -> set[str]:
        answers = set()
        async with open_leg(node.target()) as leg:
            while node.written().count("drained") < 3:
                answers.add(text_of(await collect(leg, replace(REQUEST, prompt=name))))
        return answers

    async def run(node: NodeProcess) -> list[set[str]]:
        return await asyncio.gather(*(client(node, f"w{i}") for i in range(5)))

    with NodeProcess(tmp_path, "--development", "--recycle-after", "10") as node:
        answers = asyncio.run(run(node))
        end(node)
    assert answers == [{f" w{i}" * 3} for i in range(5)]


def test_an_answer_under_way_ends_on_the_old_worker(tmp_path: Path) -> None:
    async def run(node: NodeProcess) -> int:
        async with open_leg(node.target()) as slow, open_leg(node.target()) as other:
            call = slow.generate(replace(REQUEST, max_tokens=5000))
            await anext(call)
            await collect(other, REQUEST)  # the second request: the worker is worn
            await asyncio.to_thread(wait_for, "serving", node, 2)
            assert await collect(other, REQUEST)
            return 1 + len([chunk async for chunk in call])

    with NodeProcess(tmp_path, "--development", "--recycle-after", "2") as node:
        assert asyncio.run(run(node)) == 5001
        end(node)


def test_a_worker_is_replaced_after_its_time(tmp_path: Path) -> None:
    with NodeProcess(tmp_path, "--development", "--recycle-every", "0.2") as node:
        wait_for("drained", node, 2)
        assert asyncio.run(digest(node.target()))
        end(node)


def test_a_new_worker_has_new_keys_under_the_same_root(tmp_path: Path) -> None:
    async def run(node: NodeProcess) -> None:
        async with open_leg(node.target()) as leg:
            before = (await leg.evidence()).evidence_digest
            await collect(leg, REQUEST)
            await asyncio.to_thread(wait_for, "drained", node)
            assert await collect(leg, REQUEST)
            assert (await leg.evidence()).evidence_digest != before

    with NodeProcess(tmp_path, "--development", "--recycle-after", "1") as node:
        asyncio.run(run(node))


def test_ready_names_the_process_that_is_to_be_signalled(tmp_path: Path) -> None:
    with NodeProcess(tmp_path, "--development", "--recycle-after", "9") as node:
        assert node.ready()["pid"] == node.process.pid


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="children are read from /proc")
def test_a_worker_that_dies_is_followed_by_another(tmp_path: Path) -> None:
    with NodeProcess(tmp_path, "--development", "--recycle-after", "9") as node:
        node.ready()
        (worker,) = children(node.process.pid)
        os.kill(worker, signal.SIGKILL)
        wait_for("was ended by SIGKILL; another starts", node)
        wait_for("serving", node, 2)
        assert asyncio.run(digest(node.target()))
        end(node)


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="children are read from /proc")
def test_workers_end_with_their_supervisor(tmp_path: Path) -> None:
    with NodeProcess(tmp_path, "--development", "--recycle-after", "9") as node:
        address = node.ready()["address"]
        (worker,) = children(node.process.pid)
        node.process.kill()
        node.process.wait()
        until = time.monotonic() + 30
        while listens(address):
            assert time.monotonic() < until, f"worker {worker} serves on"
            time.sleep(0.02)


def listens(address: str) -> bool:
    host, port = address.rsplit(":", 1)
    with socket.socket() as probe:
        return probe.connect_ex((host, int(port))) == 0


def test_a_first_worker_that_cannot_serve_ends_the_node_with_its_code(tmp_path: Path) -> None:
    with NodeProcess(tmp_path, "--development", "--recycle-after", "9", "--model", "/nonexistent", engine=None) as node:
        assert node.process.wait(60) == 2
        assert node.written().count("\n") == 1
        assert not node.serving


def test_a_port_is_held_by_one_supervisor_alone() -> None:
    with hold_port("127.0.0.1", 0) as held, pytest.raises(ConfigurationError, match="cannot listen"):
        hold_port("127.0.0.1", held.getsockname()[1])
