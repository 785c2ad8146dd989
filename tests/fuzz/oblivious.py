"""Malformed OHTTP, binary HTTP, calls inside them and key configurations: each is read or refused, and what opens is what was sealed.

`python -m fuzz.oblivious FIRST COUNT` tries cases by number; each follows from its number alone, but for the keys of its seals.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from functools import cache
from random import Random

from fuzz.loader import bound_memory
from fuzz.log_and_tokens import changed
from leanto_wire.errors import ProtocolError, SealError
from leanto_wire.ohttp import bhttp
from leanto_wire.ohttp.bhttp import Request, ResponseReader
from leanto_wire.ohttp.calls import GENERATE, FrameReader, call, called, frame, status_fields, status_of
from leanto_wire.ohttp.chunked import ChunkReader, RequestOpener, RequestSealer
from leanto_wire.ohttp.key_config import GatewayKey, KeyConfig

KEY = GatewayKey.of(bytes(range(32)))
PARTS = (b"a first part", b"", b"a second " * 9, b"the end")
WHOLE = b"".join(PARTS)


def in_pieces(raw: bytes, random: Random) -> list[bytes]:
    """`raw`, cut anywhere."""
    cuts = sorted(random.randrange(len(raw) + 1) for _ in range(random.randrange(4)))
    return [raw[start:end] for start, end in zip([0, *cuts], [*cuts, len(raw)], strict=True)]


@cache
def sealed() -> tuple[RequestSealer, bytes, bytes]:
    """A client, its request and the answer to it."""
    sealer, opener = RequestSealer(KEY.config), RequestOpener(KEY)
    request = b"".join(sealer.seal(part, final=part == PARTS[-1]) for part in PARTS)
    opener.feed(request)
    opener.close()
    writer = opener.answer()
    return sealer, request, b"".join(writer.seal(part, final=part == PARTS[-1]) for part in PARTS)


def _open(reader: ChunkReader, raw: bytes, good: bytes, random: Random) -> None:
    opened = b"".join(reader.feed(piece) for piece in in_pieces(raw, random)) + reader.close()
    assert opened == WHOLE, "something else was opened than was sealed"
    assert raw == good or len(raw) > len(good), "a stream that was changed is whole"  # a length may be written longer than it need be


def requests(random: Random) -> None:
    """What a gateway is sent."""
    good = sealed()[1]
    _open(RequestOpener(KEY), changed(good, random), good, random)


def answers(random: Random) -> None:
    """What a client is answered."""
    sealer, _, good = sealed()
    _open(sealer.answer(), changed(good, random), good, random)


def calls(random: Random) -> None:
    """Requests of binary HTTP, and the calls in them."""
    called(Request.parse(changed(call(GENERATE, "node.example:443", b"message" * 20).encode(), random)))


def responses(random: Random) -> None:
    """Answers of binary HTTP, and the messages in them."""
    raw = bhttp.head(200, ((b"content-type", b"x"),)) + bhttp.content(frame(b"one") + frame(b"two")) + bhttp.end(status_fields(14))
    reader, frames = ResponseReader(), FrameReader()
    for piece in in_pieces(changed(raw, random), random):
        frames.feed(reader.feed(piece))
    status_of(reader.trailers or ())


def configurations(random: Random) -> None:
    """Key configurations, and sealing to them."""
    config = KeyConfig.parse(changed(KEY.config.encode(), random))
    assert KeyConfig.parse(config.encode()) == config
    if random.random() < 0.05:
        RequestSealer(config).seal(b"x", final=True)


KINDS: tuple[Callable[[Random], None], ...] = (requests, answers, calls, responses, configurations)


def main(first: int, count: int) -> int:
    """Try the cases, and print what broke; the number of those."""
    outcomes: Counter[str] = Counter()
    broken = 0
    for number in range(first, first + count):
        kind = KINDS[number % len(KINDS)]
        try:
            kind(Random(number))
            outcomes[f"{kind.__name__} read"] += 1
        except (SealError, ProtocolError) as error:
            outcomes[f"{kind.__name__} {type(error).__name__}"] += 1
        except Exception as error:
            broken += 1
            print(f"{number} {kind.__name__}: {error!r}")
    print(dict(sorted(outcomes.items())))
    return broken


if __name__ == "__main__":
    bound_memory()
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2])) > 0)
