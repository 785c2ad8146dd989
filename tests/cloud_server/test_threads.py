"""Blocking work as an async stream: order, back-pressure, and that closing really stops it."""

from __future__ import annotations

import asyncio
import threading
from contextlib import aclosing

import pytest

from leanto_cloud.engines.threads import DEPTH, Emitter, Threads


def test_values_come_in_order_and_errors_after_them() -> None:
    def work(out: Emitter[int]) -> None:
        for value in range(3):
            out.emit(value)
        raise KeyError("late")

    async def run() -> list[int]:
        seen: list[int] = []
        with pytest.raises(KeyError):
            await read(Threads(1), work, seen)
        return seen

    assert asyncio.run(run()) == [0, 1, 2]


def test_a_slow_reader_makes_the_work_wait() -> None:
    emitted: list[int] = []
    full = threading.Event()

    def work(out: Emitter[int]) -> None:
        for value in range(1000):
            if value == DEPTH:
                full.set()
            out.emit(value)
            emitted.append(value)

    async def run() -> None:
        threads = Threads(1)
        async with aclosing(threads.stream(work)) as values:
            assert await anext(values) == 0
            await asyncio.to_thread(full.wait)
            assert len(emitted) <= DEPTH
            assert await anext(values) == 1

    asyncio.run(run())
    assert len(emitted) <= DEPTH + 2


def test_closing_stops_the_work_before_it_returns() -> None:
    ended = threading.Event()

    def work(out: Emitter[int]) -> None:
        try:
            for value in iter(int, 1):
                out.emit(value)
        finally:
            ended.set()

    async def run() -> None:
        threads = Threads(1)
        async with aclosing(threads.stream(work)) as values:
            await anext(values)
            assert threads.running == 1
        assert ended.is_set()
        assert threads.running == 0

    asyncio.run(run())


def test_cancelling_the_reader_stops_the_work() -> None:
    ended = threading.Event()

    def work(out: Emitter[int]) -> None:
        try:
            for value in iter(int, 1):
                out.emit(value)
        finally:
            ended.set()

    async def run() -> None:
        task = asyncio.create_task(read(Threads(1), work, []))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert ended.is_set()

    asyncio.run(run())


async def read(threads: Threads, work: object, into: list[int]) -> None:
    async with aclosing(threads.stream(work)) as values:  # type: ignore[arg-type, var-annotated]
        async for value in values:
            into.append(value)
