"""What must hold of a node whatever it is sent: a constant refusal, a refusal under the seal, or an answer that ends.

`python -m fuzz.node FIRST COUNT` tries that many messages in this process, with a bound on its memory, and says what went wrong with
which of them. The seal itself is opened by AEADs that tests/attacks tries; here is what stands before and behind it.
"""

from __future__ import annotations

import asyncio
import faulthandler
import resource
import sys
import traceback
from collections import Counter
from collections.abc import AsyncGenerator
from functools import cache
from random import Random

from google.protobuf.message import DecodeError

from fuzz.loader import LINE_CHARACTERS, SECONDS, bound_memory
from leanto_cloud import cadence
from leanto_cloud.admission import Admission
from leanto_cloud.development import DevelopmentAttester
from leanto_cloud.engines.base import Capabilities, EngineRequest, EngineToken
from leanto_cloud.errors import Refused
from leanto_cloud.identity import Identity
from leanto_cloud.service import PrivateCompute
from leanto_cloud.service import _parse as parse
from leanto_wire.frame import Padding
from leanto_wire.keys import public_key
from leanto_wire.seal import SUITE, Binding, Opener, Sealer, seal_request
from leanto_wire.v1.inference_pb2 import Cadence, GenerateRequest, GenerateResponse, SamplingParams, TokenizedInput
from leanto_wire.v1.private_compute_pb2 import EvidenceRequest, KeyConfig, SealedRequest
from nodes import MODEL_ID, RELEASE, EchoEngine

NUMBERS = (0, 1, -1, 2, 7, 127, 128, 2**31 - 1, -(2**31), 2**32 - 1, 2**63 - 1, -(2**63))
FLOATS = (0.0, -0.0, 0.5, 1.0, -1.0, 1e-40, 3e38, float("inf"), float("-inf"), float("nan"))
TEXTS = ("", " ", "a b", "\0", "\ufffd", "\u202e", "é" * 300, "x" * 5000, "{" * 500, "\n" * 50, "<|im_end|>", "\U0010ffff")
CHUNKS = 64  # more than the engine makes


class ShortEngine(EchoEngine):
    """Makes a few tokens whatever it is asked for, as an engine does whose context is full."""

    def __init__(self) -> None:
        super().__init__()
        self.capabilities = Capabilities(MODEL_ID, frozenset({"text", "call"}), True, 64)

    async def generate(self, request: EngineRequest) -> AsyncGenerator[EngineToken]:
        for i in range(min(request.max_tokens, 8)):
            yield EngineToken(i, request.prompt[:20], -1.0)


@cache
def parts() -> tuple[Identity, PrivateCompute, bytes]:
    """An identity, a service over it, and a sealed request that it would open."""
    identity = Identity(DevelopmentAttester(), release_digest=RELEASE, model_id=MODEL_ID)
    evidence = identity.evidence(bytes(32))
    key, digest = public_key(KeyConfig.FromString(evidence.key_config).public_key), identity._keys[0].digest
    sealed, _ = seal_request(GenerateRequest(text="a", task=1).SerializeToString(), key, Binding(digest, RELEASE))
    request = SealedRequest(suite=SUITE, evidence_digest=digest, encapsulation=sealed.encapsulation, ciphertext=sealed.ciphertext)
    return identity, PrivateCompute(ShortEngine(), identity, Admission(running=1, waiting=1)), request.SerializeToString()


def wild_request(random: Random) -> GenerateRequest:
    """A message that parses, with values from everywhere."""
    sampling = SamplingParams(top_k=abs(random.choice(NUMBERS)) % 2**32)
    for name, values in (("temperature", FLOATS), ("top_p", FLOATS), ("seed", NUMBERS)):
        if random.random() < 0.5:
            setattr(sampling, name, random.choice(values))
    if random.random() < 0.5:
        sampling.max_tokens = abs(random.choice(NUMBERS)) % 2**32
    if random.random() < 0.3:
        sampling.logprobs = random.choice(NUMBERS[:9])
    sampling.stop.extend(random.choice(TEXTS) for _ in range(random.randrange(4)))
    request = GenerateRequest(request_id=random.choice(TEXTS), text=random.choice(TEXTS), prefix=random.choice(TEXTS))
    request.sampling_params.CopyFrom(sampling)
    request.stream = random.random() < 0.7
    request.task = random.choice((0, 1, 2, 3, 77))  # type: ignore[assignment]
    if random.random() < 0.4:
        request.cadence.CopyFrom(
            Cadence(period_ms=random.choice((0, 5, 50, 1000, 2**32 - 1)), frames=random.choice((0, 1, 7, 1024, 2**32 - 1)))
        )
    if random.random() < 0.1:
        request.tokenized.CopyFrom(TokenizedInput(original_text="a", input_ids=[1, 2]))
    return request


def mutated(random: Random, raw: bytes) -> bytes:
    """`raw` with a few bytes changed, cut, repeated or put in."""
    changed = bytearray(raw)
    for _ in range(random.choice((0, 0, 1, 2, 4))):
        at = random.randrange(len(changed) + 1)
        match random.randrange(6):
            case 0 if changed:
                changed[at % len(changed)] ^= 1 << random.randrange(8)
            case 1:
                del changed[at:]
            case 2:
                changed[at:at] = random.randbytes(random.randrange(9))
            case 3:
                changed[at:at] = bytes(changed[at : at + random.randrange(64)]) * random.randrange(1, 20)
            case 4:
                changed[at:at] = random.choice((b"\xff" * 9 + b"\x01", b"\x0b" * 300, b"\x12\xff\xff\xff\xff\x0f", b"\x80" * 12))
            case _:
                del changed[at : at + random.randrange(16)]
    return bytes(changed)


def malformed(random: Random) -> tuple[str, bytes]:
    """Which message it is for, and its bytes."""
    kind = random.choice(("sealed", "inner", "inner", "evidence"))
    if random.random() < 0.1:
        return kind, random.randbytes(random.randrange(300))
    sound = {"sealed": lambda: parts()[2], "inner": lambda: wild_request(random).SerializeToString(), "evidence": _evidence_request}
    return kind, mutated(random, sound[kind]())


def _evidence_request() -> bytes:
    return EvidenceRequest(nonce=bytes(32)).SerializeToString()


def check(kind: str, raw: bytes) -> str:
    """Let the node's code read `raw`; returns what became of it. Raises whatever it must not."""
    identity, service, _ = parts()
    try:
        if kind == "inner":
            return _answer(*asyncio.run(_chunks(service, raw)))
        if kind == "evidence":
            identity.evidence(EvidenceRequest.FromString(raw).nonce)
            return "evidence"
        identity.open(SealedRequest.FromString(raw))
        return "opened"
    except Refused as refused:
        return refused.refusal.name
    except DecodeError:  # the guard's MALFORMED
        return "DecodeError"


async def _chunks(service: PrivateCompute, raw: bytes) -> tuple[Padding, list[bytes]]:
    """The answer to `raw` as it would leave the node, opened again."""
    padding = list(Padding)[len(raw) % 3]
    request = parse(raw)
    sealer = Sealer(bytes(32), b"", "response", SUITE, padding)
    opener = Opener(bytes(32), b"", "response", SUITE, padding)
    made = []
    async for chunk in cadence.sealed(service._respond(request), sealer, request, cadence.Clock(sleep=_no_time)):
        made.append(opener.open(chunk.ciphertext, final=chunk.final))
        assert len(made) <= CHUNKS + cadence.FRAMES.stop
    opener.close()
    return padding, made


async def _no_time(_: float) -> None:
    await asyncio.sleep(0)


def _answer(padding: Padding, chunks: list[bytes]) -> str:
    if padding is Padding.CONSTANT:
        return "paced"
    *begun, last = map(GenerateResponse.FromString, chunks)
    assert all(response.WhichOneof("response") in ("chunk", "chunks") for response in begun)
    kind = str(last.WhichOneof("response"))
    assert kind in ("complete", "error")
    assert last.error.message.isprintable()
    assert len(last.error.message) < LINE_CHARACTERS
    return kind


def main() -> None:
    """Print each failure with its number, and at the end a count of what became of all."""
    first, count = map(int, sys.argv[1:])
    found: Counter[str] = Counter()
    check(*malformed(Random(0)))
    bound_memory()
    read = 0
    for number in range(first, first + count):
        if number % 100 == 0:
            faulthandler.dump_traceback_later(SECONDS, exit=True)
        try:
            kind, raw = malformed(Random(number))
            read += len(raw)
            found[check(kind, raw)] += 1
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            found["failed"] += 1
            print(f"{number}: {''.join(traceback.format_exception(error)[-3:])}")
    faulthandler.cancel_dump_traceback_later()
    print(dict(found), f"{read >> 10} KiB", f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10} MiB")


if __name__ == "__main__":
    main()
