from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator

import pytest

from leanto.loop import LoopThread


def test_an_interrupted_wait_cancels_the_coroutine_and_lets_it_clean_up(monkeypatch: pytest.MonkeyPatch) -> None:
    loop, started, cleaned = LoopThread(), threading.Event(), threading.Event()

    async def endless() -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            cleaned.set()

    from concurrent.futures import Future

    wait = Future.result

    def interrupted(self: Future[None], timeout: float | None = None) -> None:
        assert started.wait(20)
        monkeypatch.setattr(Future, "result", wait)
        raise KeyboardInterrupt

    monkeypatch.setattr(Future, "result", interrupted)
    with pytest.raises(KeyboardInterrupt):
        loop.run(endless())
    assert cleaned.is_set()
    loop.close()


def test_an_iterator_that_is_left_early_is_closed() -> None:
    loop, closed = LoopThread(), threading.Event()

    async def count() -> AsyncGenerator[int, None]:
        try:
            for i in range(100):
                yield i
        finally:
            closed.set()

    items = loop.iterate(count())
    assert [next(items), next(items)] == [0, 1]
    items.close()
    assert closed.is_set()
    loop.close()


def test_an_exception_reaches_the_caller() -> None:
    loop = LoopThread()

    async def fail() -> None:
        raise KeyError("x")

    with pytest.raises(KeyError):
        loop.run(fail())
    loop.close()


def test_closing_cancels_what_still_runs() -> None:
    loop, started, cancelled = LoopThread(), threading.Event(), threading.Event()

    async def endless() -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    def run() -> None:
        with pytest.raises(asyncio.CancelledError):
            loop.run(endless())

    waiting = threading.Thread(target=run)
    waiting.start()
    assert started.wait(20)
    loop.close()
    waiting.join()
    assert cancelled.is_set()
