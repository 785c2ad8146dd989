"""How many requests run, how many may wait, whose turn it is, and the refusal of the rest. Knows nothing of what they ask.

Fair among tenants: free places go round, one tenant after another, and a full line makes room for a tenant that has fewer in it.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from leanto_cloud.errors import Refused
from leanto_wire.status import Refusal

WAIT_S = 300.0


class Admission:
    """At most `running` requests at once (`per_tenant` of one tenant) and `waiting` in line, for `wait_s` each.

    `worn` is set with the `worn_after`th request.
    """

    def __init__(
        self, *, running: int, waiting: int, per_tenant: int | None = None, wait_s: float = WAIT_S, worn_after: int | None = None
    ) -> None:
        self.worn = asyncio.Event()
        self._running = running
        self._waiting = waiting
        self._per_tenant = per_tenant or running
        self._wait_s = wait_s
        self._worn_after = worn_after
        self._admitted = 0
        self._runs: Counter[str] = Counter()
        self._lines: dict[str, deque[asyncio.Future[None]]] = {}  # never an empty one; the tenant at the front is next
        self._draining = False

    @property
    def present(self) -> int:
        """Requests that run or wait."""
        return self._runs.total() + self._in_line

    def drain(self) -> None:
        """Admit no more; those already here go on."""
        self._draining = True

    @asynccontextmanager
    async def admit(self, tenant: str = "") -> AsyncGenerator[None]:
        """Hold a place for one request of `tenant`. Raises Refused when the line is full or the node drains, TimeoutError."""
        if self._draining:
            raise Refused(Refusal.DRAINING)
        await self._place(tenant)
        self._count()
        try:
            yield
        finally:
            self._runs[tenant] -= 1
            self._runs += Counter()  # a tenant without a request is forgotten
            self._hand_out()

    async def _place(self, tenant: str) -> None:
        """Return with a place taken, at once or when the turn has come."""
        if self._may_run(tenant) and tenant not in self._lines:
            self._runs[tenant] += 1
            return
        if self._in_line >= self._waiting:
            self._make_room_for(tenant)
        turn = asyncio.get_running_loop().create_future()
        self._lines.setdefault(tenant, deque()).append(turn)
        try:
            async with asyncio.timeout(self._wait_s):
                await turn
        except (asyncio.CancelledError, TimeoutError):
            if turn.done() and not turn.cancelled() and turn.exception() is None:  # its turn came just as it gave up
                self._runs[tenant] -= 1
                self._hand_out()
            else:
                self._leave(tenant, turn)
            raise

    def _make_room_for(self, tenant: str) -> None:
        """Send the last of the longest line away. Raises Refused if `tenant` would then have as long a line itself."""
        longest = max(self._lines, key=lambda name: len(self._lines[name]), default=tenant)
        if len(self._lines.get(longest, ())) <= len(self._lines.get(tenant, ())) + 1:
            raise Refused(Refusal.BUSY)
        last = self._lines[longest][-1]
        self._leave(longest, last)
        if not last.done():
            last.set_exception(Refused(Refusal.BUSY))

    def _hand_out(self) -> None:
        """Give free places to those in line, each tenant in its turn."""
        while (tenant := next((name for name in self._lines if self._may_run(name)), None)) is not None:
            turn = self._lines[tenant][0]
            self._leave(tenant, turn)
            if turn.done():  # it has given up, and will hear of that next
                continue
            if tenant in self._lines:
                self._lines[tenant] = self._lines.pop(tenant)  # to the back
            self._runs[tenant] += 1
            turn.set_result(None)

    def _leave(self, tenant: str, turn: asyncio.Future[None]) -> None:
        line = self._lines.get(tenant, deque())
        if turn in line:
            line.remove(turn)
        if not line:
            self._lines.pop(tenant, None)

    def _may_run(self, tenant: str) -> bool:
        return self._runs.total() < self._running and self._runs[tenant] < self._per_tenant

    def _count(self) -> None:
        self._admitted += 1
        if self._admitted == self._worn_after:
            self.worn.set()

    @property
    def _in_line(self) -> int:
        return sum(map(len, self._lines.values()))
