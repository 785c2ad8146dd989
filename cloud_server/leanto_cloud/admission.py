"""How many requests run, how many may wait, and the refusal of the rest. Knows nothing of what they ask."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from leanto_cloud.errors import Refused
from leanto_wire.status import Refusal


class Admission:
    """At most `running` requests at once and `waiting` in line, first come first served."""

    def __init__(self, *, running: int, waiting: int) -> None:
        self._slots = asyncio.Semaphore(running)
        self._limit = running + waiting
        self._present = 0
        self._draining = False

    @property
    def present(self) -> int:
        """Requests that run or wait."""
        return self._present

    def drain(self) -> None:
        """Admit no more; those already here go on."""
        self._draining = True

    @asynccontextmanager
    async def admit(self) -> AsyncGenerator[None]:
        """Hold a slot for one request. Raises Refused at once when the line is full or the node drains."""
        if self._draining:
            raise Refused(Refusal.DRAINING)
        if self._present >= self._limit:
            raise Refused(Refusal.BUSY)
        self._present += 1
        try:
            async with self._slots:
                yield
        finally:
            self._present -= 1
