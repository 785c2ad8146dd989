"""Hedging: the second attempt, when it is made, which of the two answers, and what becomes of the other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import replace

import pytest

from leanto.errors import CloudUnavailable
from leanto.remote import RemoteRequest
from leanto.remote.hedging import hedged
from leanto_cloud.engines.base import EngineRequest, EngineToken
from leanto_cloud.server import Limits
from nodes import EchoEngine, collect, open_leg, running_node, text_of

SOON, NEVER = 0.01, 60.0
REQUEST = RemoteRequest("red green", max_tokens=2, timeout_s=20)


class Attempts:
    """Streams that begin when their event is set, say their number twice, or fail; and a record of what became of them."""

    def __init__(self, *, fails: tuple[int, ...] = ()) -> None:
        self.begin = [asyncio.Event(), asyncio.Event()]
        self.asked: list[int] = []
        self.closed: list[int] = []
        self._fails = fails

    async def ask(self, place: int) -> AsyncGenerator[str, None]:
        self.asked.append(place)
        try:
            await self.begin[place].wait()
            if place in self._fails:
                raise CloudUnavailable(f"attempt {place}")
            yield f"{place}a"
            yield f"{place}b"
        finally:
            self.closed.append(place)


def said(begin: tuple[int, ...], *, fails: tuple[int, ...] = (), after_s: float = SOON) -> tuple[list[str], Attempts]:
    async def run() -> tuple[list[str], Attempts]:
        attempts = Attempts(fails=fails)

        async def start() -> None:
            for place in begin:
                while place not in attempts.asked:
                    await asyncio.sleep(0)
                attempts.begin[place].set()

        starting = asyncio.create_task(start())
        got = [part async for part in hedged(attempts.ask, after_s)]
        await starting
        return got, attempts

    return asyncio.run(run())


def test_an_answer_that_begins_in_time_is_asked_for_once() -> None:
    got, attempts = said((0,), after_s=NEVER)
    assert (got, attempts.asked, attempts.closed) == (["0a", "0b"], [0], [0])


def test_the_second_attempt_answers_where_the_first_is_late_and_the_first_is_closed() -> None:
    got, attempts = said((1,))
    assert (got, attempts.asked, attempts.closed) == (["1a", "1b"], [0, 1], [0, 1])


def test_the_first_attempt_still_answers_if_it_begins_earlier_and_the_second_is_closed() -> None:
    async def run() -> tuple[list[str], list[int]]:
        attempts = Attempts()
        parts = hedged(attempts.ask, SOON)
        first = asyncio.ensure_future(anext(parts))
        while attempts.asked != [0, 1]:
            await asyncio.sleep(0)
        attempts.begin[0].set()
        return [await first] + [part async for part in parts], attempts.closed

    assert asyncio.run(run()) == (["0a", "0b"], [1, 0])


def test_an_attempt_that_fails_leaves_the_field_to_the_other() -> None:
    assert said((1, 0), fails=(1,))[0] == ["0a", "0b"]


def test_a_failure_before_the_delay_is_the_answer() -> None:
    with pytest.raises(CloudUnavailable, match="attempt 0"):
        said((0,), fails=(0,), after_s=NEVER)


def test_if_both_fail_the_first_is_heard() -> None:
    async def run() -> None:
        attempts = Attempts(fails=(0, 1))
        parts = hedged(attempts.ask, SOON)
        first = asyncio.ensure_future(anext(parts))
        while attempts.asked != [0, 1]:
            await asyncio.sleep(0)
        for event in reversed(attempts.begin):
            event.set()
        with pytest.raises(CloudUnavailable, match="attempt 0"):
            await first
        assert sorted(attempts.closed) == [0, 1]

    asyncio.run(run())


def test_whoever_stops_waiting_closes_both() -> None:
    async def run() -> list[int]:
        attempts = Attempts()
        parts = hedged(attempts.ask, SOON)
        first = asyncio.ensure_future(anext(parts))
        while attempts.asked != [0, 1]:
            await asyncio.sleep(0)
        first.cancel()
        await asyncio.wait([first])
        return sorted(attempts.closed)

    assert asyncio.run(run()) == [0, 1]


class FirstIsSlow(EchoEngine):
    """Holds its first request back for ever."""

    async def generate(self, request: EngineRequest) -> AsyncGenerator[EngineToken]:
        if not self.requests:
            self.requests.append(request)
            self.running += 1
            try:
                await asyncio.Event().wait()
            finally:
                self.running -= 1
        async for token in super().generate(request):
            yield token


def test_a_hedged_call_is_sealed_twice_answered_once_and_counted_twice() -> None:
    engine = FirstIsSlow()

    async def run() -> None:
        async with running_node(engine, limits=Limits(running=4, drain_s=0.0)) as node:
            target = replace(node.target, hedge_after_s=0.05)
            async with open_leg(target) as leg:
                call = leg.generate(REQUEST)
                assert text_of([chunk async for chunk in call]) == " red green"
                async with asyncio.timeout(10):
                    while engine.running:
                        await asyncio.sleep(0.005)
                plain = leg.generate(REQUEST)
                assert text_of([chunk async for chunk in plain]) == " red green"
                assert call.bytes_sent > 2 * plain.bytes_sent  # two requests, and evidence for both connections
            (key,) = node.identity._keys
            assert len(key._opened) == 3  # each under an encapsulation of its own

    asyncio.run(run())
    assert len(engine.requests) == 3


def test_without_a_delay_nothing_is_asked_twice() -> None:
    engine = EchoEngine()

    async def run() -> None:
        async with running_node(engine) as node, open_leg(node.target) as leg:
            await collect(leg, REQUEST)

    asyncio.run(run())
    assert len(engine.requests) == 1


def test_a_frame_that_carries_nothing_is_a_beginning_and_nothing_is_asked_twice() -> None:
    engine = EchoEngine(gate=(gate := asyncio.Event()))

    async def run() -> None:
        async with running_node(engine, limits=Limits(running=4, drain_s=0.0)) as node:
            target = replace(node.target, padding="constant", cadence_ms=20, cadence_frames=4, hedge_after_s=0.3)
            async with open_leg(target) as leg:
                await leg.evidence()
                asyncio.get_running_loop().call_later(0.8, gate.set)  # frames come from the first 20 ms on, words only now
                assert text_of(await collect(leg, REQUEST)) == " red green"

    asyncio.run(run())
    assert len(engine.requests) == 1
