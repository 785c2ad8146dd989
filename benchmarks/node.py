"""Nodes for benchmarks, each a process of its own: `leanto-cloud serve` as it ships, or one thing of it changed on purpose.

`python -m benchmarks.node VARIANT serve …` is such a process; `node(variant)` starts one. Nothing here is part of the node that ships.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import grpc

from leanto.remote import RemoteTarget
from leanto_wire.frame import BLOCK_BYTES, Padding, pad, unpad
from leanto_wire.seal import TAG_BYTES
from leanto_wire.v1 import private_compute_pb2_grpc
from leanto_wire.v1.inference_pb2 import GenerateRequest, GenerateResponse

Variant = Literal["as it ships", "unpadded", "slow engine", "unpadded, slow engine", "shared cache", "plain too", "plain too, fast engine"]

PLAIN = "leanto.benchmark.Plain"
STARTING_S = 60.0
SLOW_S = 0.02


@contextmanager
def node(variant: Variant = "as it ships", *options: str) -> Iterator[RemoteTarget]:
    """A development node on loopback, ended by its process id."""
    with tempfile.TemporaryDirectory() as folder:
        ready = Path(folder) / "ready.json"
        command = [sys.executable, "-m", "benchmarks.node", variant, "serve", "--development", "--ready-file", str(ready), *options]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            until = time.monotonic() + STARTING_S
            while not ready.exists():
                if process.poll() is not None or time.monotonic() > until:
                    raise RuntimeError("the node did not start; run `leanto-cloud serve --development` to see why")
                time.sleep(0.05)
            at = json.loads(ready.read_text())
            yield RemoteTarget(at["address"], at["development_root"])
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def frame_bare() -> None:
    """Make this process frame messages without any padding: what a positive control needs."""
    BLOCK_BYTES.update({"request": 1, "response": 1})


def take_your_time() -> None:
    """Let the native engine spend SLOW_S on each token, as a model a thousand times the size would."""
    from leanto_cloud.engines.threads import Emitter

    emit = Emitter.emit

    def emit_slowly(self: Emitter[Any], value: Any) -> None:
        time.sleep(SLOW_S)
        emit(self, value)

    Emitter.emit = emit_slowly  # type: ignore[method-assign]


def share_a_prefix_cache() -> None:
    """Let the native engine skip the prompts that anybody has asked before, as an engine with a shared prefix cache does.

    It then reads the last words alone: the time of a hit, and an answer that nobody looks at.
    """
    from leanto_cloud.engines.native import NativeEngine

    inner, seen = NativeEngine.generate, set[str]()

    def generate(self: NativeEngine, request: Any) -> Any:
        hit = request.prompt in seen
        seen.add(request.prompt)
        return inner(self, replace(request, prompt=request.prompt[-8:]) if hit else request)

    NativeEngine.generate = generate  # type: ignore[method-assign]


def write_padded(response: GenerateResponse) -> bytes:
    """As many bytes as a sealed chunk has."""
    return pad(response.SerializeToString(), "response", Padding.BLOCKS) + bytes(TAG_BYTES)


def read_padded(raw: bytes) -> GenerateResponse:
    """What `write_padded` wrote."""
    return GenerateResponse.FromString(unpad(raw[:-TAG_BYTES], "response")[0])


def serve_plainly_too() -> None:
    """Offer the same answers unsealed, by the same server, under another service name.

    Also a message for each token, where the node puts together what is ready; and messages padded as blocks are.
    """
    from leanto_cloud import cadence, server, service
    from leanto_cloud.service import PrivateCompute

    class Both(PrivateCompute):
        async def plainly(self, request: GenerateRequest, _: Any) -> AsyncGenerator[GenerateResponse]:
            async for response in self._admitted(together(self._respond(request))):
                yield response

        async def one_by_one(self, request: GenerateRequest, _: Any) -> AsyncGenerator[GenerateResponse]:
            async for response in self._admitted(self._respond(request)):
                yield response

        async def _admitted(self, responses: Any) -> AsyncGenerator[Any]:
            async with self._admission.admit(), aclosing(service._within(self._limit_s, responses)) as within:
                async for response in within:
                    yield response

    async def together(responses: AsyncGenerator[GenerateResponse]) -> AsyncGenerator[GenerateResponse]:
        async with cadence._working(responses) as engine:
            while made := await engine.made():
                for response in cadence._together(made):
                    yield response

    register = private_compute_pb2_grpc.add_PrivateComputeServicer_to_server

    def register_both(both: Any, to: Any) -> None:
        register(both, to)
        read, write = GenerateRequest.FromString, GenerateResponse.SerializeToString
        handlers: dict[str, Any] = {
            "Generate": grpc.unary_stream_rpc_method_handler(both.plainly, read, write),
            "GenerateOneByOne": grpc.unary_stream_rpc_method_handler(both.one_by_one, read, write),
            "GeneratePadded": grpc.unary_stream_rpc_method_handler(both.plainly, read, write_padded),
        }
        to.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(PLAIN, handlers),))
        to.add_registered_method_handlers(PLAIN, handlers)

    setattr(server, "PrivateCompute", Both)  # noqa: B010
    setattr(private_compute_pb2_grpc, "add_PrivateComputeServicer_to_server", register_both)  # noqa: B010


def take_a_fast_engine() -> None:
    """Replace the model by one that has its tokens ready: what is left is the cost of carrying them."""
    from leanto_cloud import cli
    from leanto_cloud.engines.base import Capabilities, EngineRequest, EngineToken, Load

    class FastEngine:
        capabilities = Capabilities("fast@" + "0" * 64, frozenset({"text"}), True, 4096)

        def prompt_tokens(self, request: EngineRequest) -> int:
            return len(request.prompt.split())

        async def generate(self, request: EngineRequest) -> AsyncGenerator[EngineToken]:
            for i in range(request.max_tokens):
                yield EngineToken(i % 4096, " word", -0.5, "length" if i + 1 == request.max_tokens else None)

        def load(self) -> Load:
            return Load(0, 1)

        def healthy(self) -> bool:
            return True

        def close(self) -> None:
            pass

    cli._load_engine = lambda options: FastEngine()


CHANGES: dict[Variant, tuple[Callable[[], None], ...]] = {
    "as it ships": (),
    "unpadded": (frame_bare,),
    "slow engine": (take_your_time,),
    "unpadded, slow engine": (frame_bare, take_your_time),
    "shared cache": (share_a_prefix_cache,),
    "plain too": (serve_plainly_too,),
    "plain too, fast engine": (serve_plainly_too, take_a_fast_engine),
}


def main() -> int:
    """Serve."""
    from leanto_cloud import cli

    for change in CHANGES[sys.argv[1]]:  # type: ignore[index]
        change()
    return cli.main(sys.argv[2:])


if __name__ == "__main__":
    sys.exit(main())
