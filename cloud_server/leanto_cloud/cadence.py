"""When the chunks of an answer leave: as they are made, or one frame each period, whatever the engine does.

Knows nothing of engines, keys or gRPC.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass

from leanto_cloud.errors import Refused
from leanto_wire.frame import CONSTANT_BYTES, Padding
from leanto_wire.records import RecordWriter
from leanto_wire.seal import Sealer
from leanto_wire.status import Refusal
from leanto_wire.v1.inference_pb2 import Cadence, GenerateRequest, GenerateResponse, GenerateStreamChunks
from leanto_wire.v1.private_compute_pb2 import SealedChunk

PERIOD_MS = range(5, 1001)
FRAMES = range(1, 1025)
AHEAD = 32  # responses that may wait to leave before the engine waits, too


@dataclass(frozen=True, slots=True)
class Clock:
    """Time, injected: `now` in seconds, `sleep` for as many."""

    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep


def sealed(
    responses: AsyncGenerator[GenerateResponse], sealer: Sealer, request: GenerateRequest, clock: Clock
) -> AsyncGenerator[SealedChunk]:
    """The chunks of an answer, when they are to leave. Raises Refused for a cadence that is not of the request's level."""
    constant = sealer.padding is Padding.CONSTANT
    if constant is not request.HasField("cadence"):
        raise Refused(Refusal.NOT_OPENED)
    if not constant:
        return _as_made(responses, sealer)
    if request.cadence.period_ms not in PERIOD_MS or request.cadence.frames not in FRAMES:
        raise Refused(Refusal.NOT_OPENED)
    return _paced(responses, sealer, request.cadence, clock)


async def _as_made(responses: AsyncGenerator[GenerateResponse], sealer: Sealer) -> AsyncGenerator[SealedChunk]:
    """What was ready together leaves together: an engine faster than the line costs no message for each token."""
    async with _working(responses) as engine:
        while made := await engine.made():
            for response in _together(made):
                final = response.WhichOneof("response") in ("complete", "error")
                yield SealedChunk(ciphertext=sealer.seal(response.SerializeToString(), final=final), final=final)


def _together(made: list[GenerateResponse]) -> list[GenerateResponse]:
    parts = [response.chunk for response in made if response.HasField("chunk")]
    if len(parts) < 2:
        return made
    return [GenerateResponse(chunks=GenerateStreamChunks(chunks=parts)), *made[len(parts) :]]


async def _paced(
    responses: AsyncGenerator[GenerateResponse], sealer: Sealer, cadence: Cadence, clock: Clock
) -> AsyncGenerator[SealedChunk]:
    """Frame after frame on the grid of the cadence. What ends an answer, its failure too, shows only at a multiple of its frames."""
    records, start, period_s, tick, sent = RecordWriter(), clock.now(), cadence.period_ms / 1000, 0, 0
    async with _working(responses) as engine:
        while not sealer.finished:
            tick = max(tick + 1, math.ceil((clock.now() - start) / period_s))  # a reader that was slow shifts whole periods
            await clock.sleep(start + tick * period_s - clock.now())
            if len(records) < CONSTANT_BYTES:
                for response in engine.take():
                    records.add(response.SerializeToString())
            part, sent = records.take(), sent + 1
            final = sent % cadence.frames == 0 and engine.ended and not len(records)
            if final:
                engine.check()
            yield SealedChunk(ciphertext=sealer.seal(part, final=final), final=final)


class _Work:
    """An engine at work ahead of whoever takes what it makes, but not far."""

    def __init__(self, responses: AsyncGenerator[GenerateResponse]) -> None:
        self._made: list[GenerateResponse] = []
        self._over = False
        self._some, self._room = asyncio.Event(), asyncio.Event()
        self._task = asyncio.create_task(self._run(responses))

    async def _run(self, responses: AsyncGenerator[GenerateResponse]) -> None:
        try:
            async with aclosing(responses):
                async for response in responses:
                    self._made.append(response)
                    self._some.set()
                    while len(self._made) >= AHEAD:
                        self._room.clear()
                        await self._room.wait()
        finally:
            self._over = True
            self._some.set()

    @property
    def ended(self) -> bool:
        """Whether nothing more comes."""
        return self._over and not self._made

    def check(self) -> None:
        """Raises what the engine failed with."""
        self._task.result()

    def take(self) -> list[GenerateResponse]:
        """What it has made since the last time."""
        made, self._made = self._made, []
        if not self._over:
            self._some.clear()
        self._room.set()
        return made

    async def made(self) -> list[GenerateResponse]:
        """The same, as soon as there is something; nothing once it has ended. Raises what it failed with."""
        await self._some.wait()
        made = self.take()
        if not made:
            self.check()
        return made

    async def stop(self) -> None:
        """Return once it has stopped. Its failure is taken, so that asyncio does not log it."""
        self._task.cancel()
        await asyncio.wait([self._task])
        if not self._task.cancelled():
            self._task.exception()


@asynccontextmanager
async def _working(responses: AsyncGenerator[GenerateResponse]) -> AsyncGenerator[_Work]:
    engine = _Work(responses)
    try:
        yield engine
    finally:
        await engine.stop()
