"""Wherever a node is made to fail, and however hard: the prompt reaches no file, no log, no status, no trailer. A new worker follows."""

from __future__ import annotations

import asyncio
import os
import secrets
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc import aio

from crashes import HARD, QUIET, SOFT
from leanto.errors import CloudUnavailable
from leanto.remote import RemoteTarget
from leanto_wire.v1.inference_pb2 import TASK_TEXT, GenerateRequest, SamplingParams
from leanto_wire.v1.private_compute_pb2_grpc import PrivateComputeStub
from nodes import NodeProcess, open_leg, seal_by_hand

START_S = 30.0


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    """One node over all crashes, whose supervisor starts a new worker after each that ends one."""
    folder = tmp_path_factory.mktemp("node")
    with NodeProcess(folder, "--development", "--recycle-after", "10000", engine="crashes.CrashingEngine()") as made:
        made.ready()
        yield made


@pytest.fixture
def canary() -> str:
    return f"canary{secrets.token_hex(12)}"


async def said_in_the_clear(target: RemoteTarget, prompt: str) -> tuple[grpc.StatusCode, str]:
    """The status of one sealed request, and everything that the node said of it outside the seal."""
    until = time.monotonic() + START_S
    async with open_leg(target) as leg:
        while True:
            try:
                claims = await leg.evidence()
                break
            except CloudUnavailable:
                assert time.monotonic() < until, "no new worker came"
                await asyncio.sleep(0.05)
    message = GenerateRequest(text=prompt, task=TASK_TEXT, stream=True, sampling_params=SamplingParams(max_tokens=4))
    outer, _ = seal_by_hand(claims, message)
    async with aio.insecure_channel(target.address) as channel:
        stub: Any = PrivateComputeStub(channel)
        call = stub.Generate(outer, timeout=20)
        try:
            chunks = [chunk.SerializeToString() async for chunk in call]
        except aio.AioRpcError as error:
            return error.code(), repr((error.details(), error.debug_error_string(), error.initial_metadata(), error.trailing_metadata()))
        return grpc.StatusCode.OK, repr((chunks, await call.initial_metadata(), await call.trailing_metadata()))


def crash(node: NodeProcess, place: str, canary: str) -> grpc.StatusCode:
    """Crash there, and search everything that the node said or wrote for the canary."""
    code, said = asyncio.run(said_in_the_clear(node.target(), f"crash:{place} {canary}"))
    assert canary not in said
    assert found_in(node, canary) == []
    return code


def found_in(node: NodeProcess, canary: str) -> list[str]:
    shared = [path for place in ("/dev/shm", "/var/tmp", "/var/crash") for path in Path(place).glob("*") if path.is_file()]
    contents = node.files() | {str(path): path.read_bytes() for path in shared if os.access(path, os.R_OK)}
    return [name for name, content in contents.items() if canary.encode() in content or canary in name]


@pytest.mark.parametrize("place", SOFT)
def test_a_failure_writes_no_canary_and_the_node_goes_on(node: NodeProcess, place: str, canary: str) -> None:
    code = crash(node, place, canary)
    assert code is (grpc.StatusCode.OK if place in QUIET else grpc.StatusCode.INTERNAL)


@pytest.mark.parametrize("place", HARD)
def test_the_death_of_a_worker_writes_no_canary_and_another_follows(node: NodeProcess, place: str, canary: str) -> None:
    before = node.written().count("another starts")
    assert crash(node, place, canary) in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
    code, _ = asyncio.run(said_in_the_clear(node.target(), f"and now {canary}"))
    assert code is grpc.StatusCode.OK
    assert node.written().count("another starts") == before + 1
    assert found_in(node, canary) == []


def test_what_failed_is_told_by_type_and_place(node: NodeProcess, canary: str) -> None:
    for place in ("parse", "event-loop task", "engine thread", "destructor", "library log"):
        crash(node, place, canary)
    expected = ("a call failed: ValueError at crashes.py:", "lost task: ValueError", "uncaught in a thread: ValueError")
    assert [line for line in (*expected, "unraisable: ValueError", "(message withheld)") if line not in node.written()] == []


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="only Linux shows open files, of an undumpable process to root")
def test_a_worker_has_no_file_open_for_writing(node: NodeProcess) -> None:
    supervisor = node.process.pid
    (worker,) = Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text().split()
    writable = []
    for entry in Path(f"/proc/{worker}/fd").iterdir():
        flags = next(line for line in Path(f"/proc/{worker}/fdinfo/{entry.name}").read_text().splitlines() if line.startswith("flags"))
        if int(flags.split()[1], 8) & os.O_ACCMODE and Path(os.readlink(entry)).is_file():
            writable.append(os.readlink(entry))
    assert writable == []


def test_the_scan_finds_what_a_careless_engine_tells_the_log(tmp_path: Path, canary: str) -> None:
    with NodeProcess(tmp_path, "--development", engine="crashes.SpillingEngine()") as node:
        asyncio.run(said_in_the_clear(node.target(), canary))
        assert found_in(node, canary) == [str(tmp_path / "stderr.txt")]


def test_the_scan_finds_what_an_engine_writes_into_a_file(tmp_path: Path, canary: str) -> None:
    with NodeProcess(tmp_path, "--development", engine="crashes.CrashingEngine()") as node:  # its log is a file, so files can be written
        asyncio.run(said_in_the_clear(node.target(), f"crash:written file {canary}"))
        assert sorted(Path(name).name for name in found_in(node, canary)) == ["spilled.txt"] * 3
