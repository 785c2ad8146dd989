"""What must hold of a node whatever HTTP/2 frames and headers it is sent: it goes on serving, and its memory stays bounded.

`python -m fuzz.frames FIRST COUNT` sends that many connections full of malformed frames to a node in this process.
"""

from __future__ import annotations

import asyncio
import resource
import sys
from random import Random

import http2
from http2 import END_HEADERS, END_STREAM, Connection, connected, frame, literal
from leanto.remote import RemoteRequest
from leanto_cloud.server import Limits
from nodes import Node, collect, open_leg, running_node

LIMITS = Limits(drain_s=0.0, receive_s=0.5, stall_s=0.2)
BATCH = 200  # connections between two looks at whether it still serves
AT_ONCE = 20
MEMORY_BYTES = 512 << 20
PATHS = (
    "/leanto.v1.PrivateCompute/Generate",
    "/leanto.v1.PrivateCompute/GetEvidence",
    "/grpc.health.v1.Health/Watch",
    "/",
    "*",
    "x" * 3000,
)
NAMES = (
    ":path",
    ":method",
    "te",
    "content-type",
    "grpc-timeout",
    "grpc-encoding",
    "grpc-accept-encoding",
    "a-bin",
    "",
    "A",
    "host",
    "cookie",
)
VALUES = ("", "1n", "99999999H", "-1S", "gzip", "application/grpc+proto", "text/html", "x" * 2000, "\0", "%", "=", "====", "\x7f" * 40)


def headers(random: Random) -> bytes:
    """A block that may be sound, lack fields, repeat them or hold what no header should."""
    block = http2.call_headers(random.choice(PATHS)) if random.random() < 0.8 else b""
    for _ in range(random.randrange(6)):
        block += literal(random.choice(NAMES), random.choice(VALUES))
    return _spoilt(random, block) if random.random() < 0.3 else block


def frames(random: Random) -> list[bytes]:
    """What one connection sends."""
    made, stream = [], 1
    for _ in range(random.randrange(1, 12)):
        match random.randrange(5):
            case 0 | 1:
                made.append(
                    frame(http2.HEADERS, headers(random), flags=random.choice((END_HEADERS, END_HEADERS | END_STREAM, 0)), stream=stream)
                )
            case 2:
                body = http2.message(random.randbytes(random.randrange(200)))
                made.append(frame(http2.DATA, _spoilt(random, body), flags=random.choice((0, END_STREAM)), stream=stream))
            case 3:
                kind, flags = random.randrange(12), random.randrange(256)
                made.append(
                    frame(
                        kind, random.randbytes(random.choice((0, 4, 5, 8, 12))), flags=flags, stream=random.choice((0, stream, stream + 2))
                    )
                )
            case _:
                made.append(random.randbytes(random.randrange(60)))
        stream += random.choice((0, 2))
    return made


def _spoilt(random: Random, raw: bytes) -> bytes:
    changed = bytearray(raw)
    for _ in range(random.randrange(4)):
        if changed:
            changed[random.randrange(len(changed))] = random.randrange(256)
    return bytes(changed)


async def attack(node: Node, number: int) -> None:
    """One connection; the node may hang up at any time."""
    random = Random(number)
    async with connected(node.address, window=random.choice((0, 1, 65_535))) as connection:
        await connection.send(*frames(random))
        if random.random() < 0.2:
            await _listen(connection)


async def _listen(connection: Connection) -> None:
    try:
        async with asyncio.timeout(0.05):
            async for _ in connection.frames():
                pass
    except TimeoutError:
        pass


async def run(first: int, count: int) -> None:
    """Attack, and see that it still serves. Raises whatever goes wrong."""
    async with running_node(limits=LIMITS) as node:
        for start in range(first, first + count, BATCH):
            numbers = range(start, min(start + BATCH, first + count))
            for some in range(0, len(numbers), AT_ONCE):
                await asyncio.gather(*(attack(node, number) for number in numbers[some : some + AT_ONCE]))
            async with open_leg(node.target) as leg:
                assert await collect(leg, RemoteRequest("a", max_tokens=1, timeout_s=20)), f"nothing is served after {numbers}"
            used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
            assert used < MEMORY_BYTES, f"{used >> 20} MiB after {numbers}"


def main() -> None:
    """Say how many connections it has survived."""
    first, count = map(int, sys.argv[1:])
    asyncio.run(run(first, count))
    print(f"{count} connections, {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10} MiB")


if __name__ == "__main__":
    main()
