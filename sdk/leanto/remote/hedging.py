"""Two chances for an answer to begin: a second attempt once the first is late, and the loser closed. Knows nothing of nodes or seals."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import TypeVar

T = TypeVar("T")


async def hedged(ask: Callable[[int], AsyncGenerator[T, None]], after_s: float) -> AsyncGenerator[T, None]:
    """What `ask(0)` yields; or what `ask(1)` does, asked once the first has been silent for `after_s`, if that begins earlier.

    An attempt has begun with the first thing that it yields, whatever that holds.
    An attempt that fails before it begins leaves the field to the other. Raises what `ask(0)` did if both fail.
    """
    streams = [ask(0)]
    firsts = [asyncio.ensure_future(anext(streams[0]))]
    try:
        done, _ = await asyncio.wait(firsts, timeout=after_s)
        if not done:
            streams.append(ask(1))
            firsts.append(asyncio.ensure_future(anext(streams[1])))
        winner = await _winner(firsts)
        for place in range(len(streams)):
            if place != winner:
                await _close(streams[place], firsts[place])
        yield firsts[winner].result()
        async for value in streams[winner]:
            yield value
    finally:
        for stream, first in zip(streams, firsts, strict=True):
            await _close(stream, first)


async def _winner(firsts: Sequence[asyncio.Future[T]]) -> int:
    """The place of the first to have begun; 0 if none can."""
    waiting = set(firsts)
    while waiting:
        _, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for place, first in enumerate(firsts):
            if first.done() and first.exception() is None:
                return place
    return 0


async def _close(stream: AsyncGenerator[T, None], first: asyncio.Future[T]) -> None:
    first.cancel()
    await asyncio.wait([first])
    if not first.cancelled():
        first.exception()  # taken here, so that asyncio does not report it
    await stream.aclose()
