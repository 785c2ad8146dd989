"""Blocking generation as an async stream: threads, back-pressure, and cancellation that really stops the work.

Knows nothing of models: the work is any function that emits values one by one.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

T = TypeVar("T")
DEPTH = 8  # tokens that may wait for a slow reader before the work stops to wait for it


class Closed(Exception):
    """The reader has gone; raised inside the work so that it stops."""


class Emitter(Generic[T]):
    """The work's end of one stream. `emit` waits while the reader is `DEPTH` values behind."""

    def __init__(self, loop: asyncio.AbstractEventLoop, queue: asyncio.Queue[T | None]) -> None:
        self._loop = loop
        self._queue = queue
        self._room = threading.Semaphore(DEPTH)
        self._closed = threading.Event()

    def emit(self, value: T) -> None:
        """Hand one value over. Raises Closed once the reader has gone."""
        self._room.acquire()
        self.check()
        self._loop.call_soon_threadsafe(self._queue.put_nowait, value)

    def check(self) -> None:
        """Raises Closed once the reader has gone."""
        if self._closed.is_set():
            raise Closed

    def taken(self) -> None:
        """The reader took one value."""
        self._room.release()

    def close(self) -> None:
        """The reader has gone."""
        self._closed.set()
        self._room.release()


class Threads:
    """A bounded pool of threads for generations."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.running = 0
        self._pool = ThreadPoolExecutor(capacity, thread_name_prefix="generation")

    async def stream(self, work: Callable[[Emitter[T]], None]) -> AsyncGenerator[T]:
        """What `work` emits, in order; then whatever it raises. Closing the stream returns once the work has stopped."""
        loop = asyncio.get_running_loop()
        queue: asyncio.Queue[T | None] = asyncio.Queue()
        emitter = Emitter(loop, queue)

        def run() -> None:
            try:
                emitter.check()
                work(emitter)
            except Closed:
                pass
            finally:
                loop.call_soon_threadsafe(queue.put_nowait, None)

        self.running += 1
        future = loop.run_in_executor(self._pool, run)
        future.add_done_callback(self._ended)
        try:
            while (value := await queue.get()) is not None:
                yield value
                emitter.taken()
            await future
        finally:
            emitter.close()
            await asyncio.wait([future])

    def _ended(self, future: asyncio.Future[None]) -> None:
        self.running -= 1
        if not future.cancelled():
            future.exception()  # taken here too: a reader that left early must not make asyncio log it

    def close(self) -> None:
        """Let running work end and take no more."""
        self._pool.shutdown(wait=False, cancel_futures=True)
