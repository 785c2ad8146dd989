"""Forced crashes inside a node: the prompt "crash:PLACE …" chooses the place, and every one tries to take the prompt along."""

from __future__ import annotations

import asyncio
import ctypes
import logging
import os
import resource
import signal
import tempfile
import threading
import warnings
from collections.abc import AsyncGenerator, Callable
from contextvars import ContextVar
from typing import Any

from leanto_cloud import guard, identity, messages, service
from leanto_cloud.engines.base import EngineRequest, EngineToken
from leanto_wire import seal
from nodes import EchoEngine, Unraisable

doomed: ContextVar[str] = ContextVar("doomed", default="")  # the prompt of the call at hand


def wanted(place: str, text: str) -> bool:
    return f"crash:{place} " in text


def lose(text: str) -> None:
    raise ValueError(text)


async def lose_later(text: str) -> None:
    raise ValueError(text)


def log_and_warn(text: str) -> None:
    for name in ("transformers", "asyncio", "grpc._cython.cygrpc", "leanto_cloud_lookalike"):
        logging.getLogger(name).critical("working on %s", text)
    warnings.warn(text, stacklevel=1)


def in_a_thread(text: str) -> None:
    thread = threading.Thread(target=lose, args=(text,), name=text)
    thread.start()
    thread.join()


def recurse(text: str) -> None:
    recurse(text + text[:1])


def run_out_of_memory(text: str) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (1 << 30, hard))
    try:
        text * (1 << 30)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def write_files(text: str) -> None:
    """A temporary file, one in the home folder, one in the working folder: all are refused, the last aloud."""
    for folder in (tempfile.gettempdir(), os.environ["HOME"], os.getcwd()):
        with open(os.path.join(folder, "spilled.txt"), "w") as file:
            file.write(text)


def print_natively(text: str) -> None:
    """What a panic in a native library does."""
    for stream in (1, 2):
        os.write(stream, f"thread panicked: byte index 3 is not a char boundary of `{text}`\n".encode())
    os.abort()


def stop_hard(text: str) -> None:
    raise SystemExit(text)


SOFT: dict[str, Callable[[str], object]] = {  # after them the process goes on
    "prompt encode": lose,
    "prefill": lose,
    "mid-decode": lose,
    "last token": lose,
    "engine thread": in_a_thread,
    "event-loop callback": lambda text: asyncio.get_running_loop().call_soon(lose, text),
    "event-loop task": lambda text: asyncio.create_task(lose_later(text)) and None,
    "destructor": lambda text: Unraisable(text) and None,
    "library log": log_and_warn,
    "recursion": recurse,
    "out of memory": run_out_of_memory,
    "written file": write_files,
    "parse": lose,
    "open": lose,
    "engine request": lose,
    "seal": lose,
    "stream write": lose,
}
HARD: dict[str, Callable[[str], object]] = {  # they end it
    "segmentation fault": lambda text: ctypes.string_at(0),
    "abort": lambda text: os.abort(),
    "native panic": print_natively,
    "kill": lambda text: os.kill(os.getpid(), signal.SIGKILL),
    "exit": lambda text: os._exit(3),
    "system exit": stop_hard,
}
QUIET = ("engine thread", "event-loop callback", "event-loop task", "destructor", "library log")  # the answer comes all the same
OWN_PLACES = ("prompt encode", "mid-decode", "last token", "parse", "open", "engine request", "seal", "stream write")


class CrashingEngine(EchoEngine):
    """Answers with the prompt's words, and crashes where the prompt says. Making one also mines the node around it."""

    def __init__(self) -> None:
        super().__init__()
        mine_the_node()

    def prompt_tokens(self, request: EngineRequest) -> int:
        if wanted("prompt encode", request.prompt):
            lose(request.prompt)
        return super().prompt_tokens(request)

    async def generate(self, request: EngineRequest) -> AsyncGenerator[EngineToken]:
        for place, crash in (SOFT | HARD).items():
            if place not in OWN_PLACES and wanted(place, request.prompt):
                crash(request.prompt)
        made = 0
        async for token in super().generate(request):
            if made == 1 and wanted("mid-decode", request.prompt):
                lose(request.prompt)
            yield token
            made += 1
        if wanted("last token", request.prompt):
            lose(request.prompt)


class SpillingEngine(EchoEngine):
    """Tells the prompt in the node's own words, which is what no engine may do: the scan must find it."""

    async def generate(self, request: EngineRequest) -> AsyncGenerator[EngineToken]:
        logging.getLogger("leanto_cloud").error("working on %s", request.prompt)
        async for token in super().generate(request):
            yield token


def mine_the_node() -> None:
    """Let parts of the node fail with the prompt in the exception, if the prompt says so."""
    parse, seal_chunk, send = service._parse, seal.Sealer.seal, guard.Guard._send
    open_request, engine_request = identity.NodeKey.open, messages.engine_request

    def mined_open(self: Any, sealed: Any, token: bytes) -> Any:
        message, sealer = open_request(self, sealed, token)
        doomed.set(message.decode(errors="replace"))
        fail_at("open")
        return message, sealer

    def mined_parse(message: bytes) -> Any:
        fail_at("parse")
        return parse(message)

    def mined_request(request: Any) -> Any:
        fail_at("engine request")
        return engine_request(request)

    def mined_seal(self: Any, message: bytes, *, final: bool) -> bytes:
        fail_at("seal")
        return seal_chunk(self, message, final=final)

    async def mined_send(self: Any, response: Any, context: Any) -> None:
        fail_at("stream write")
        await send(self, response, context)

    service._parse, seal.Sealer.seal, guard.Guard._send = mined_parse, mined_seal, mined_send  # type: ignore[method-assign]
    identity.NodeKey.open, messages.engine_request = mined_open, mined_request  # type: ignore[method-assign]


def fail_at(place: str) -> None:
    if wanted(place, doomed.get()):
        lose(doomed.get())
