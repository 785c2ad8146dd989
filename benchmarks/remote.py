"""One loopback round trip of the sealed RPC, against a real `leanto-cloud serve` in another process.

`python -m benchmarks.remote [--json] [--quick]`. The node runs the embedded pocket-large; one token and a whole call are asked.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

from benchmarks.measure import Row, quantile, run_cli
from benchmarks.node import node
from leanto.remote import RemoteLeg, RemoteRequest, RemoteTarget


def measure(quick: bool) -> list[Row]:
    """All rows."""
    with node() as target:
        return asyncio.run(_rows(target, 20 if quick else 200))


async def _rows(target: RemoteTarget, calls: int) -> list[Row]:
    first = RemoteLeg(target)
    start = time.perf_counter()
    await first.evidence()
    connect_ms = 1000 * (time.perf_counter() - start)
    rows = [{"what": "connect and verify evidence", "p50 ms": connect_ms, "p99 ms": None, "bytes out": None, "bytes in": None}]
    for name, tokens in (("sealed call, 1 token", 1), ("sealed call, whole answer", 96)):
        request = RemoteRequest("wake me at half past six on weekdays", "call" if tokens > 1 else "text", max_tokens=tokens)
        timed = [timing async for timing in _calls(first, request, calls)]
        figures, sizes = [took_ms for took_ms, _ in timed], timed[-1][1]
        rows.append(
            {"what": name, "p50 ms": quantile(figures, 0.5), "p99 ms": quantile(figures, 0.99), "bytes out": sizes[0], "bytes in": sizes[1]}
        )
    await first.close()
    return rows


async def _calls(leg: RemoteLeg, request: RemoteRequest, calls: int) -> AsyncIterator[tuple[float, tuple[int, int]]]:
    for _ in range(calls):
        start = time.perf_counter()
        call = leg.generate(request)
        async for _ in call:
            pass
        yield 1000 * (time.perf_counter() - start), (call.bytes_sent, call.bytes_received)


if __name__ == "__main__":
    run_cli("remote", measure)
