"""Private compute nodes for tests: a deterministic engine, and real servers on real loopback sockets, honest and lying."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.message import Message
from grpc import aio

from leanto.errors import LeantoError
from leanto.remote import RemoteChunk, RemoteLeg, RemoteRequest, RemoteTarget
from leanto_cloud.attesters.base import Attester
from leanto_cloud.development import DevelopmentAttester
from leanto_cloud.engines.base import Capabilities, EngineRequest, EngineToken, Load
from leanto_cloud.identity import Identity
from leanto_cloud.server import Limits, Server
from leanto_wire.claims import Claims
from leanto_wire.keys import public_key
from leanto_wire.policies import HardwarePolicy
from leanto_wire.seal import SUITE, Binding, Opener, seal_request
from leanto_wire.v1 import private_compute_pb2_grpc as rpc
from leanto_wire.v1.private_compute_pb2 import EvidenceRequest, EvidenceResponse, SealedChunk, SealedRequest

MODEL_ID = "echo@" + "0" * 64
RELEASE = bytes(range(32))
REQUEST = RemoteRequest("red green blue", max_tokens=4, timeout_s=20)


class EchoEngine:
    """Says the prompt's words again and again, one a token. `gate` holds each token back; `fails_at` raises with the prompt in it."""

    def __init__(self, *, gate: asyncio.Event | None = None, fails_at: int | None = None, logprobs: bool = True) -> None:
        self.capabilities = Capabilities(MODEL_ID, frozenset({"text"}), logprobs, 4096)
        self.requests: list[EngineRequest] = []
        self.running = 0
        self.produced = 0
        self.started = asyncio.Event()
        self.stopped = asyncio.Event()
        self._gate = gate
        self._fails_at = fails_at

    def prompt_tokens(self, request: EngineRequest) -> int:
        return len((request.prompt + request.prefix).split())

    async def generate(self, request: EngineRequest) -> AsyncGenerator[EngineToken]:
        self.requests.append(request)
        self.running += 1
        self.started.set()
        try:
            words = request.prompt.split()
            for i in range(request.max_tokens):
                if self._gate:
                    await self._gate.wait()
                if i == self._fails_at:
                    raise RuntimeError(f"cannot go on with {request.prompt}")
                self.produced += 1
                yield EngineToken(i, f" {words[i % len(words)]}", -0.5, "length" if i + 1 == request.max_tokens else None)
        finally:
            self.running -= 1
            self.stopped.set()

    def load(self) -> Load:
        return Load(self.running, 1)

    def healthy(self) -> bool:
        return True

    def close(self) -> None:
        pass


@dataclass(frozen=True)
class Node:
    """A node that serves, and how to reach it."""

    server: Server
    identity: Identity
    target: RemoteTarget

    @property
    def address(self) -> str:
        return self.target.address


@asynccontextmanager
async def running_node(
    engine: Any = None,
    *,
    limits: Limits | None = None,
    lifetime_s: float = 3600.0,
    now_s: Callable[[], float] = time.time,
    model_id: str | None = None,
    credentials: Any = None,
    machine: tuple[Attester, HardwarePolicy] | None = None,
    **more: Any,
) -> AsyncIterator[Node]:
    """A real server with the development attester, or with one of hardware and the policy that believes it."""
    engine = engine or EchoEngine()
    development = DevelopmentAttester()
    attester, policy = machine or (development, None)
    root = None if machine else development.root_base64
    named = model_id or engine.capabilities.model_id
    identity = Identity(attester, release_digest=RELEASE, model_id=named, lifetime_s=lifetime_s, now_s=now_s)
    server = Server(engine, identity, limits=limits or Limits(drain_s=0.0), **more)
    await server.start(credentials)
    try:
        yield Node(server, identity, RemoteTarget(server.address, root, evidence=policy))
    finally:
        await server.stop()


@asynccontextmanager
async def open_leg(target: RemoteTarget, **more: Any) -> AsyncIterator[RemoteLeg]:
    """A leg that is closed again."""
    leg = RemoteLeg(target, **more)
    try:
        yield leg
    finally:
        await leg.close()


async def fault_of(target: RemoteTarget, request: RemoteRequest = REQUEST, **more: Any) -> LeantoError:
    """What a request ends in, told in one line."""
    async with open_leg(target, **more) as leg:
        with pytest.raises(LeantoError) as caught:
            await collect(leg, request)
    assert "\n" not in str(caught.value)
    return caught.value


def seal_by_hand(claims: Claims, message: bytes | Message, token: bytes = b"") -> tuple[SealedRequest, Opener]:
    """`message` as a client would send it, and what opens the answer."""
    raw = message if isinstance(message, bytes) else message.SerializeToString()
    sealed, opener = seal_request(raw, public_key(claims.public_key), Binding(claims.evidence_digest, claims.release_digest, token))
    request = SealedRequest(
        suite=SUITE, evidence_digest=claims.evidence_digest, encapsulation=sealed.encapsulation, ciphertext=sealed.ciphertext, token=token
    )
    return request, opener


async def collect(leg: RemoteLeg, request: RemoteRequest) -> list[RemoteChunk]:
    """All chunks of one call."""
    return [chunk async for chunk in leg.generate(request)]


def text_of(chunks: list[RemoteChunk]) -> str:
    """Their text."""
    return "".join(chunk.text for chunk in chunks)


Evidence = Callable[[EvidenceRequest], Awaitable[EvidenceResponse]]
Answer = Callable[[SealedRequest], AsyncIterator[SealedChunk]]


class LyingNode(rpc.PrivateComputeServicer):
    """A server that says what a test tells it to, on behalf of an honest identity where the test wants one."""

    def __init__(self, evidence: Evidence, answer: Answer) -> None:
        self._evidence = evidence
        self._answer = answer

    async def GetEvidence(self, request: EvidenceRequest, context: Any) -> EvidenceResponse:
        return await self._evidence(request)

    async def Generate(self, request: SealedRequest, context: Any) -> AsyncIterator[SealedChunk]:
        async for chunk in self._answer(request):
            yield chunk


@asynccontextmanager
async def lying_node(
    *,
    lie_about_evidence: Callable[[EvidenceResponse], EvidenceResponse] = lambda honest: honest,
    answer: Callable[[Identity, SealedRequest], AsyncIterator[SealedChunk]] | None = None,
) -> AsyncIterator[RemoteTarget]:
    """A server whose evidence passes through a lie and whose answer a test writes."""
    attester = DevelopmentAttester()
    identity = Identity(attester, release_digest=RELEASE, model_id=MODEL_ID)

    async def evidence(request: EvidenceRequest) -> EvidenceResponse:
        return lie_about_evidence(identity.evidence(request.nonce))

    async def nothing(_: Identity, __: SealedRequest) -> AsyncIterator[SealedChunk]:
        for chunk in ():
            yield chunk

    server = aio.server()
    written = answer or nothing
    rpc.add_PrivateComputeServicer_to_server(LyingNode(evidence, lambda request: written(identity, request)), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield RemoteTarget(f"127.0.0.1:{port}", attester.root_base64)
    finally:
        await server.stop(None)


class NodeProcess:
    """The real `leanto-cloud serve` in a process of its own, over an engine that a line of Python names (None: the real choice).

    Its home, its temporary files and its working folder lie in `folder`, beside what it prints: there is no other place it should know.
    """

    def __init__(self, folder: Path, *arguments: str, engine: str | None = "EchoEngine()") -> None:
        self._folder = folder
        self._ready = folder / "ready.json"
        self._errors = folder / "stderr.txt"
        self._output = folder / "stdout.txt"
        code = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        code += "from leanto_cloud import cli; import crashes; from nodes import *\n"
        if engine is not None:
            code += f"cli._load_engine = lambda options: {engine}\n"
        code += "sys.exit(cli.main(sys.argv[1:]))"
        command = [sys.executable, "-c", code, "serve", "--ready-file", str(self._ready), *arguments]
        places = {name: folder / name.lower() for name in ("HOME", "TMPDIR", "CWD")}
        for place in places.values():
            place.mkdir(exist_ok=True)
        environment = os.environ | {name: str(place) for name, place in places.items()}
        with self._errors.open("w") as errors, self._output.open("w") as output:
            self.process = subprocess.Popen(command, stdout=output, stderr=errors, cwd=places["CWD"], env=environment)

    def __enter__(self) -> NodeProcess:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def ready(self) -> dict[str, Any]:
        """What the ready file says, once there is one."""
        for _ in range(3000):
            if self._ready.exists():
                return dict(json.loads(self._ready.read_text()))
            try:
                self.process.wait(0.02)
            except subprocess.TimeoutExpired:
                continue
            break
        raise AssertionError(f"the node did not start: {self.written()}")

    def target(self) -> RemoteTarget:
        """How a client reaches it."""
        ready = self.ready()
        return RemoteTarget(ready["address"], ready["development_root"])

    @property
    def serving(self) -> bool:
        """Whether the ready file is there."""
        return self._ready.exists()

    def written(self) -> str:
        """All that it wrote to stdout and stderr so far."""
        return self._output.read_text() + self._errors.read_text()

    def files(self) -> dict[str, bytes]:
        """Everything that lies where it could write, by name."""
        return {str(path): path.read_bytes() for path in self._folder.rglob("*") if path.is_file()}


class LeakyEngine(EchoEngine):
    """Does what a careless library would: logs the prompt, warns with it, loses it in tasks and threads, and fails with it."""

    async def generate(self, request: EngineRequest) -> AsyncGenerator[EngineToken]:
        import logging
        import threading
        import warnings

        prompt = request.prompt
        for name in ("transformers", "asyncio", "grpc._cython.cygrpc", "leanto_cloud_lookalike"):
            logging.getLogger(name).critical("working on %s", prompt)
        warnings.warn(prompt, stacklevel=1)
        thread = threading.Thread(target=self._lose, args=(prompt,))
        thread.start()
        thread.join()
        asyncio.get_running_loop().call_soon(self._lose, prompt)
        lost = asyncio.create_task(self._lose_later(prompt))
        await asyncio.wait([lost])
        del lost
        Unraisable(prompt)
        yield EngineToken(0, prompt, -0.5)
        raise RuntimeError(prompt) from ValueError(prompt)

    def _lose(self, prompt: str) -> None:
        raise ValueError(prompt)

    async def _lose_later(self, prompt: str) -> None:
        raise ValueError(prompt)


class Unraisable:
    """Fails where nobody can catch it."""

    def __init__(self, prompt: str) -> None:
        self._prompt = prompt

    def __del__(self) -> None:
        raise ValueError(self._prompt)
