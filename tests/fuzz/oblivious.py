"""OHTTP, binary HTTP, calls inside them and key configurations: each is read or refused, and what opens is what was sealed.

The same case changes the same places; the keys of the seals are new in each process.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from random import Random
from zlib import crc32

from fuzz.changes import fixed
from fuzz.target import Target
from leanto_wire.errors import ProtocolError, SealError
from leanto_wire.ohttp import bhttp
from leanto_wire.ohttp.bhttp import Request, ResponseReader
from leanto_wire.ohttp.calls import GENERATE, FrameReader, call, called, frame, status_fields, status_of
from leanto_wire.ohttp.chunked import ChunkReader, RequestOpener, RequestSealer
from leanto_wire.ohttp.key_config import GatewayKey, KeyConfig

KEY = GatewayKey.of(bytes(range(32)))
PARTS = (b"a first part", b"", b"a second " * 9, b"the end")


def pieces(raw: bytes) -> Iterator[bytes]:
    """`raw`, cut in places that follow from it."""
    random = Random(crc32(raw))
    cuts = sorted(random.randrange(len(raw) + 1) for _ in range(random.randrange(4)))
    return (raw[start:end] for start, end in zip([0, *cuts], [*cuts, len(raw)], strict=True))


@cache
def sealed() -> tuple[RequestSealer, bytes, bytes]:
    """A client, its request and the answer to it."""
    sealer, opener = RequestSealer(KEY.config), RequestOpener(KEY)
    request = b"".join(sealer.seal(part, final=part == PARTS[-1]) for part in PARTS)
    opener.feed(request)
    opener.close()
    writer = opener.answer()
    return sealer, request, b"".join(writer.seal(part, final=part == PARTS[-1]) for part in PARTS)


def _opened(reader: ChunkReader, raw: bytes, good: bytes) -> None:
    opened = b"".join(map(reader.feed, pieces(raw))) + reader.close()
    assert opened == b"".join(PARTS), "something else was opened than was sealed"
    assert raw == good or len(raw) > len(good), "a stream that was changed is whole"  # a length may be written longer than it need be


def response(raw: bytes) -> None:
    """Binary HTTP as it comes, and the messages in it."""
    reader, frames = ResponseReader(), FrameReader()
    for piece in pieces(raw):
        frames.feed(reader.feed(piece))
    status_of(reader.trailers or ())


def response_seed() -> bytes:
    """Two messages and a status."""
    content = bhttp.content(frame(b"one") + frame(b"two"))
    return bhttp.head(200, ((b"content-type", b"x"),)) + content + bhttp.end(status_fields(14))


def configuration(raw: bytes) -> None:
    """What is read is written as it was, and can be sealed to or is refused."""
    config = KeyConfig.parse(raw)
    assert KeyConfig.parse(config.encode()) == config
    RequestSealer(config).seal(b"x", final=True)


TARGETS = (
    Target("ohttp.request", fixed(lambda: sealed()[1]), lambda raw: _opened(RequestOpener(KEY), raw, sealed()[1]), (SealError,)),
    Target("ohttp.answer", fixed(lambda: sealed()[2]), lambda raw: _opened(sealed()[0].answer(), raw, sealed()[2]), (SealError,)),
    Target(
        "ohttp.call",
        fixed(lambda: call(GENERATE, "node.example:443", b"message" * 20).encode()),
        lambda raw: called(Request.parse(raw)),
        (ProtocolError,),
    ),
    Target("ohttp.response", fixed(response_seed), response, (ProtocolError,)),
    Target("ohttp.key_config", fixed(KEY.config.encode), configuration, (ProtocolError, SealError)),
)
