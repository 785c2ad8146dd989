"""What is under a seal and around it: frames, records, keys, and the answer as a client takes it from a node that may be dishonest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from random import Random

from fuzz.changes import changed, changed_message, drawn, fixed, one_of
from fuzz.target import Target
from leanto.errors import CloudUnavailable, PromptRefused, ProtocolFault
from leanto.remote.sealed_answer import Answer
from leanto_wire.errors import SealError
from leanto_wire.frame import CONSTANT_BYTES, HEADER_BYTES, Direction, Padding, pad, unpad
from leanto_wire.keys import PrivateKey, public_key
from leanto_wire.records import RecordReader, RecordWriter
from leanto_wire.seal import SUITES, Binding, Opener, Sealed, Sealer, open_request, seal_request
from leanto_wire.v1.inference_pb2 import (
    Cadence,
    GenerateComplete,
    GenerateError,
    GenerateResponse,
    GenerateStreamChunk,
    GenerateStreamChunks,
    OutputLogProbs,
)
from leanto_wire.v1.private_compute_pb2 import SealedChunk

MODEL, FRAMES = "m@1", 4
SECRET, ENCAPSULATION = bytes(32), b""
BINDING = Binding(b"e" * 32, b"r" * 32, b"token")
DIRECTIONS: tuple[Direction, ...] = ("request", "response")
MOST_TOKENS = 16


def frame_seed(random: Random) -> bytes:
    """A sound frame behind a byte that says of which direction."""
    side, padding = random.randrange(2), random.choice(list(Padding))
    return bytes([side]) + pad(random.randbytes(random.choice((0, 1, 100, 252, 1000))), DIRECTIONS[side], padding)


def changed_frame(random: Random, raw: bytes) -> bytes:
    """Half of the changes are made to the header, or to one byte of the padding."""
    if random.random() < 0.5:
        return changed(random, raw)
    at = 1 + random.randrange(HEADER_BYTES) if random.random() < 0.7 else len(raw) - 1
    return raw[:at] + bytes([random.choice((0, 1, 2, 3, 255, random.randrange(256)))]) + raw[at + 1 :]


def frame(raw: bytes) -> None:
    """A frame that is taken is what `pad` makes."""
    direction = DIRECTIONS[raw[0] & 1 if raw else 0]
    message, padding = unpad(raw[1:], direction)
    assert pad(message, direction, padding) == raw[1:]


def record_seed(random: Random) -> tuple[bytes, ...]:
    """The parts that frames carry, dummies among them."""
    writer = RecordWriter()
    for _ in range(random.randrange(1, 4)):
        writer.add(random.randbytes(random.choice((0, 3, 200, CONSTANT_BYTES, 3000))))
    return (*(writer.take() for _ in range(-(-len(writer) // CONSTANT_BYTES) + 1)),)


def records(parts: tuple[bytes, ...]) -> None:
    """As they come out of the frames, none of which holds more than it can."""
    reader = RecordReader()
    for part in parts:
        reader.feed(part[:CONSTANT_BYTES])
    reader.close()


@cache
def node_key() -> tuple[PrivateKey, tuple[Sealed, ...]]:
    """A key and requests to it, one in each suite and padding."""
    key = PrivateKey.generate()
    public = public_key(key.public_bytes)
    sealed = [seal_request(b"request", public, BINDING, suite=suite, padding=padding)[0] for suite in SUITES for padding in Padding]
    return key, tuple(sealed)


def request_seed(random: Random) -> tuple[bytes, ...]:
    """A suite, an encapsulation and a ciphertext."""
    at = random.randrange(len(node_key()[1]))
    sealed = node_key()[1][at]
    return bytes([1 + at // len(Padding)]), sealed.encapsulation, sealed.ciphertext


def request(parts: tuple[bytes, ...]) -> None:
    """What a node opens is what was sealed."""
    suite, encapsulation, ciphertext = (*parts, b"", b"", b"")[:3]
    spoken = suite[0] if suite and suite[0] in SUITES else 1
    assert open_request(Sealed(encapsulation, ciphertext), node_key()[0], BINDING, suite=spoken)[0] == b"request"


def answer_seed(random: Random) -> tuple[bytes, ...]:
    """What a node says under the seal."""
    part = GenerateStreamChunk(token_ids=[1, 2], text="ab", output_logprobs=OutputLogProbs(token_logprobs=[-0.5, -1.0]))
    last = GenerateResponse(complete=GenerateComplete(finish_reason="stop", model_id=MODEL, completion_tokens=4))
    if random.random() < 0.2:
        last = GenerateResponse(error=GenerateError(code=random.choice((1, 2)), message="not this"))  # type: ignore[arg-type]
    several = GenerateResponse(chunks=GenerateStreamChunks(chunks=[part, part]))
    begun = [random.choice((GenerateResponse(chunk=part), several)) for _ in range(random.randrange(4))]
    return tuple(each.SerializeToString() for each in (*begun, last))


def _taken(contents: Sequence[bytes], padding: Padding, cadence: Cadence | None) -> None:
    """`contents` sealed by the node, one after the other, and taken by the client."""
    sealer = Sealer(SECRET, ENCAPSULATION, "response", 1, padding)
    answer = _answer(padding, cadence)
    for at, content in enumerate(contents):
        final = at + 1 == len(contents)
        for part in answer.take(SealedChunk(ciphertext=sealer.seal(content, final=final), final=final)):
            assert len(part.logprobs) == len(part.token_ids) <= MOST_TOKENS
    assert answer.finish().finish_reason


def _answer(padding: Padding, cadence: Cadence | None) -> Answer:
    return Answer(Opener(SECRET, ENCAPSULATION, "response", 1, padding), cadence, MODEL, MOST_TOKENS, "node.example:443")


def paced_seed(random: Random) -> bytes:
    """The same messages as a stream of records."""
    writer = RecordWriter()
    for message in answer_seed(random):
        writer.add(message)
    return bytes(writer._waiting)


def paced(stream: bytes) -> None:
    """A stream of records in as many frames as the cadence asks for."""
    parts = [stream[at : at + CONSTANT_BYTES] for at in range(0, len(stream), CONSTANT_BYTES)]
    _taken([*parts, *[b""] * (-len(parts) % FRAMES or FRAMES)], Padding.CONSTANT, Cadence(period_ms=50, frames=FRAMES))


@cache
def ciphertexts() -> tuple[bytes, ...]:
    """The chunks of an answer."""
    sealer = Sealer(SECRET, ENCAPSULATION, "response", 1, Padding.BLOCKS)
    messages = answer_seed(Random(0))
    return tuple(sealer.seal(message, final=at + 1 == len(messages)) for at, message in enumerate(messages))


def chunks(parts: tuple[bytes, ...]) -> None:
    """The chunks of an answer, out of the hands of whoever carries them; none that was changed is taken."""
    answer = _answer(Padding.BLOCKS, None)
    for at, part in enumerate(parts):
        answer.take(SealedChunk(ciphertext=part, final=at + 1 == len(parts)))
    answer.finish()
    assert parts == ciphertexts(), "an answer that was changed is taken"


def _key_bytes() -> bytes:
    return node_key()[0].public_bytes


parse_private: Callable[[bytes], PrivateKey] = PrivateKey.from_bytes
SAID = (ProtocolFault, SealError, PromptRefused, CloudUnavailable)
REFUSED = (SealError,)
TARGETS = (
    Target("seal.frame", drawn(frame_seed, changed_frame), frame, REFUSED),
    Target("seal.records", one_of(record_seed), records, REFUSED),
    Target("seal.public_key", fixed(_key_bytes), public_key, REFUSED),
    Target("seal.private_key", fixed(lambda: bytes(range(96))), parse_private, REFUSED),
    Target("seal.request", one_of(request_seed), request, REFUSED),
    Target("answer.chunks", one_of(lambda _: ciphertexts()), chunks, (SealError, ProtocolFault)),
    Target(
        "answer.messages", one_of(answer_seed, changed_message(GenerateResponse)), lambda parts: _taken(parts, Padding.BLOCKS, None), SAID
    ),
    Target("answer.paced", drawn(paced_seed), paced, SAID),
)
