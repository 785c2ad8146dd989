"""When the chunks of an answer leave: as they are made, or one frame each period, whatever the engine does.

Knows nothing of engines, keys or gRPC.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass

from leanto_cloud.errors import Refused
from leanto_wire.frame import Padding
from leanto_wire.records import RecordWriter
from leanto_wire.seal import Sealer
from leanto_wire.status import Refusal
from leanto_wire.v1.inference_pb2 import Cadence, GenerateRequest, GenerateResponse
from leanto_wire.v1.private_compute_pb2 import SealedChunk

PERIOD_MS = range(5, 1001)
FRAMES = range(1, 1025)
BACKLOG_BYTES = 1 << 16  # what may wait for its frames before the engine has to wait, too


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
    async with aclosing(responses):
        async for response in responses:
            final = not response.HasField("chunk")
            yield SealedChunk(ciphertext=sealer.seal(response.SerializeToString(), final=final), final=final)


async def _paced(
    responses: AsyncGenerator[GenerateResponse], sealer: Sealer, cadence: Cadence, clock: Clock
) -> AsyncGenerator[SealedChunk]:
    """Frame after frame on the grid of the cadence. What ends an answer, its failure too, shows only at a multiple of its frames."""
    backlog = _Backlog()
    engine = asyncio.create_task(backlog.fill(responses))
    start, period_s, tick, sent = clock.now(), cadence.period_ms / 1000, 0, 0
    try:
        while not sealer.finished:
            tick = max(tick + 1, math.ceil((clock.now() - start) / period_s))  # a reader that was slow shifts whole periods
            await clock.sleep(start + tick * period_s - clock.now())
            ended, part, sent = engine.done(), backlog.take(), sent + 1
            final = sent % cadence.frames == 0 and ended and backlog.empty
            if final:
                engine.result()
            yield SealedChunk(ciphertext=sealer.seal(part, final=final), final=final)
    finally:
        engine.cancel()
        await asyncio.wait([engine])
        if not engine.cancelled():
            engine.exception()  # taken: asyncio must not log it


class _Backlog:
    """What the engine has made and no frame has carried yet."""

    def __init__(self) -> None:
        self._records = RecordWriter()
        self._room = asyncio.Event()

    @property
    def empty(self) -> bool:
        return not len(self._records)

    async def fill(self, responses: AsyncGenerator[GenerateResponse]) -> None:
        async with aclosing(responses):
            async for response in responses:
                self._records.add(response.SerializeToString())
                while len(self._records) > BACKLOG_BYTES:
                    self._room.clear()
                    await self._room.wait()

    def take(self) -> bytes:
        part = self._records.take()
        self._room.set()
        return part
