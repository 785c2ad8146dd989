"""The cadence of an answer: frames of one size on one grid, whatever the engine does. Time is a number here; nothing waits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

import pytest

from leanto_cloud import cadence
from leanto_cloud.cadence import AHEAD, Clock, sealed
from leanto_cloud.errors import Refused
from leanto_wire.frame import Padding
from leanto_wire.keys import PrivateKey, public_key
from leanto_wire.records import RecordReader
from leanto_wire.seal import Binding, Opener, Sealer, open_request, seal_request
from leanto_wire.v1.inference_pb2 import (
    Cadence,
    GenerateComplete,
    GenerateRequest,
    GenerateResponse,
    GenerateStreamChunk,
    GenerateStreamChunks,
)

KEY = PrivateKey.generate()
PERIOD_MS, FRAMES = 50, 4
REQUEST = GenerateRequest(cadence=Cadence(period_ms=PERIOD_MS, frames=FRAMES))
END = GenerateResponse(complete=GenerateComplete(finish_reason="stop"))
FRAME_BYTES = 1024 + 16


def token(text: str) -> GenerateResponse:
    return GenerateResponse(chunk=GenerateStreamChunk(text=text))


def exchange(padding: Padding = Padding.CONSTANT) -> tuple[Opener, Sealer]:
    binding = Binding(b"e" * 32, b"r" * 32)
    request, opener = seal_request(b"prompt", public_key(KEY.public_bytes), binding, padding=padding)
    return opener, open_request(request, KEY, binding)[1]


@dataclass
class Script:
    """An engine on a clock of its own: at each time (s) it says something, or fails. Without times it is as fast as it is read."""

    said: Sequence[tuple[float, GenerateResponse | Exception]]
    now: float = 1000.0
    waiting: list[tuple[float, asyncio.Event]] = field(default_factory=list)
    produced: int = 0
    closed: bool = False

    @property
    def clock(self) -> Clock:
        return Clock(lambda: self.now, self.sleep)

    async def sleep(self, seconds: float) -> None:
        """Move time on, waking the engine in between."""
        until = self.now + seconds
        await settle()
        while due := sorted((one for one in self.waiting if one[0] <= until), key=lambda one: one[0]):
            self.now = max(self.now, due[0][0])
            self.waiting.remove(due[0])
            due[0][1].set()
            await settle()
        self.now = until
        await settle()

    async def generate(self) -> AsyncGenerator[GenerateResponse]:
        start = self.now
        try:
            for at, response in self.said:
                if start + at > self.now:
                    event = asyncio.Event()
                    self.waiting.append((start + at, event))
                    await event.wait()
                if isinstance(response, Exception):
                    raise response
                self.produced += 1
                yield response
        finally:
            self.closed = True


async def settle() -> None:
    for _ in range(300):
        await asyncio.sleep(0)


@dataclass(frozen=True)
class Trace:
    """What whoever carries the chunks sees, and what the client reads."""

    seen: list[tuple[float, int, bool]]
    read: list[GenerateResponse]
    failure: Exception | None = None


def trace(script: Script, request: GenerateRequest = REQUEST, padding: Padding = Padding.CONSTANT) -> Trace:
    async def run() -> Trace:
        opener, sealer = exchange(padding)
        reader, seen, read, start = RecordReader(), [], [], script.now
        try:
            async with aclosing(sealed(script.generate(), sealer, request, script.clock)) as chunks:
                async for chunk in chunks:
                    seen.append((round(script.now - start, 6), len(chunk.ciphertext), chunk.final))
                    part = opener.open(chunk.ciphertext, final=chunk.final)
                    read += reader.feed(part) if padding is Padding.CONSTANT else [part]
            reader.close()
            opener.close()
        except RuntimeError as error:
            return Trace(seen, [], error)
        return Trace(seen, [GenerateResponse.FromString(message) for message in read])

    return asyncio.run(run())


def grid(frames: int) -> list[tuple[float, int, bool]]:
    return [(round((i + 1) * PERIOD_MS / 1000, 6), FRAME_BYTES, i + 1 == frames) for i in range(frames)]


def test_a_fast_answer_takes_one_round_of_frames() -> None:
    told = trace(Script([(0, token("a")), (0, token("b")), (0, END)]))
    assert told.seen == grid(FRAMES)
    assert told.read == [token("a"), token("b"), END]


@pytest.mark.parametrize("answer", [1, 30, 120])
@pytest.mark.parametrize("pace_s", [0.0, 0.001, 0.0015])
def test_answers_of_different_lengths_and_speeds_look_the_same(answer: int, pace_s: float) -> None:
    said = [(pace_s * i, token("word")) for i in range(answer)]
    told = trace(Script([*said, (pace_s * answer, END)]))
    assert told.seen == grid(FRAMES)
    assert len(told.read) == answer + 1


def test_a_stalled_engine_still_sends_frames_at_the_cadence() -> None:
    told = trace(Script([(0, token("a")), (1.01, token("b")), (1.01, END)]))
    assert told.seen == grid(24)  # the first multiple of 4 after 20 periods
    assert told.read == [token("a"), token("b"), END]


def test_a_message_larger_than_a_frame_spans_several() -> None:
    told = trace(Script([(0, token("x" * 5000)), (0, END)]))
    assert told.seen == grid(8)
    assert told.read == [token("x" * 5000), END]


def test_an_engine_that_fails_ends_its_answer_only_where_one_may_end() -> None:
    script = Script([(0, token("a")), (0.06, RuntimeError("gone"))])
    told = trace(script)
    assert [at for at, _, _ in told.seen] == [at for at, _, _ in grid(FRAMES - 1)]
    assert not any(final for *_, final in told.seen)
    assert str(told.failure) == "gone"


@pytest.mark.parametrize("said", [0, 1, 40])
def test_an_engine_that_fails_is_heard_after_what_it_made(said: int) -> None:
    told = trace(Script([*[(0.0, token("a"))] * said, (0, RuntimeError("gone"))]), GenerateRequest(), Padding.BLOCKS)
    assert str(told.failure) == "gone"
    assert len(told.seen) == (said + AHEAD - 1) // AHEAD


def test_closing_the_answer_stops_the_engine() -> None:
    script = Script([(0, token("a")), (1e9, END)])

    async def run() -> None:
        _, sealer = exchange()
        async with aclosing(sealed(script.generate(), sealer, REQUEST, script.clock)) as chunks:
            await anext(chunks)
        assert script.closed

    asyncio.run(run())


def test_cancelling_the_call_stops_a_stalled_engine() -> None:
    script = Script([(1e9, END)])

    async def read() -> None:
        _, sealer = exchange()
        async with aclosing(sealed(script.generate(), sealer, REQUEST, Clock(lambda: 0.0, lambda _: asyncio.sleep(60)))) as chunks:
            await anext(chunks)

    async def run() -> None:
        reading = asyncio.create_task(read())
        await settle()
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        assert script.closed

    asyncio.run(run())


def test_a_slow_reader_shifts_whole_periods_and_sees_no_burst() -> None:
    script = Script([(0, END)])

    async def run() -> list[float]:
        _, sealer = exchange()
        seen, start = [], script.now
        async with aclosing(sealed(script.generate(), sealer, REQUEST, script.clock)) as chunks:
            async for _ in chunks:
                seen.append(round(script.now - start, 6))
                script.now += 0.12 if len(seen) == 2 else 0
        return seen

    assert asyncio.run(run()) == [0.05, 0.1, 0.25, 0.3]


def test_an_engine_far_ahead_of_its_frames_waits() -> None:
    script = Script([(0, token("x" * 1000))] * 200 + [(0, END)])

    async def run() -> None:
        _, sealer = exchange()
        async with aclosing(sealed(script.generate(), sealer, REQUEST, script.clock)) as chunks:
            await anext(chunks)
            assert script.produced <= 2 * AHEAD
            for _ in range(80):
                await anext(chunks)
            assert 2 * AHEAD < script.produced <= 80 + 2 * AHEAD

    asyncio.run(run())


BAD: dict[str, tuple[GenerateRequest, Padding]] = {
    "constant without a cadence": (GenerateRequest(), Padding.CONSTANT),
    "a cadence without constant": (REQUEST, Padding.BLOCKS),
    "too fast": (GenerateRequest(cadence=Cadence(period_ms=cadence.PERIOD_MS.start - 1, frames=1)), Padding.CONSTANT),
    "too slow": (GenerateRequest(cadence=Cadence(period_ms=cadence.PERIOD_MS.stop, frames=1)), Padding.CONSTANT),
    "no frames": (GenerateRequest(cadence=Cadence(period_ms=50)), Padding.CONSTANT),
    "too many frames": (GenerateRequest(cadence=Cadence(period_ms=50, frames=cadence.FRAMES.stop)), Padding.CONSTANT),
}


@pytest.mark.parametrize("name", BAD)
def test_a_cadence_that_is_not_of_the_level_is_refused_before_the_engine_starts(name: str) -> None:
    request, padding = BAD[name]
    script = Script([(0, END)])
    with pytest.raises(Refused):
        sealed(script.generate(), exchange(padding)[1], request, script.clock)
    assert script.produced == 0


@pytest.mark.parametrize("padding", [Padding.BLOCKS, Padding.BUCKETS])
def test_the_other_levels_send_at_once_what_was_ready_together(padding: Padding) -> None:
    told = trace(Script([(0, token("a")), (0, token("b")), (0, END)]), GenerateRequest(), padding)
    assert told.read == [GenerateResponse(chunks=GenerateStreamChunks(chunks=[token("a").chunk, token("b").chunk])), END]
    assert [final for *_, final in told.seen] == [False, True]
    assert {size for _, size, _ in told.seen} == {144 if padding is Padding.BLOCKS else 272}
