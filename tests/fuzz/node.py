"""What must hold of a node whatever it is sent: a constant refusal, a refusal under the seal, or an answer that ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from functools import cache
from random import Random

from google.protobuf.message import DecodeError

from fuzz.changes import changed_message, drawn, fixed
from fuzz.target import Target
from leanto_cloud import cadence
from leanto_cloud.admission import Admission
from leanto_cloud.development import DevelopmentAttester
from leanto_cloud.engines.base import Capabilities, EngineRequest, EngineToken
from leanto_cloud.errors import Refused
from leanto_cloud.identity import Identity
from leanto_cloud.service import PrivateCompute
from leanto_cloud.service import _parse as parse
from leanto_wire.frame import Padding
from leanto_wire.keys import PublicKey, public_key
from leanto_wire.records import RecordReader
from leanto_wire.report_data import evidence_digest
from leanto_wire.seal import SUITE, Binding, Opener, Sealer, seal_request
from leanto_wire.v1.inference_pb2 import TASK_CALL, TASK_TEXT, Cadence, GenerateRequest, GenerateResponse, SamplingParams
from leanto_wire.v1.private_compute_pb2 import EvidenceRequest, KeyConfig, SealedRequest
from nodes import MODEL_ID, RELEASE, EchoEngine

CHUNKS = 64  # more than the engine makes


class ShortEngine(EchoEngine):
    """Makes a few tokens whatever it is asked for, as an engine does whose context is full."""

    def __init__(self) -> None:
        super().__init__()
        self.capabilities = Capabilities(MODEL_ID, frozenset({"text", "call"}), True, 64)

    async def generate(self, request: EngineRequest) -> AsyncGenerator[EngineToken]:
        for i in range(min(request.max_tokens, 8)):
            yield EngineToken(i, request.prompt[:20], -1.0)


class RefusedUnderSeal(Exception):
    """The answer is an error that only the client can read."""


@cache
def node() -> tuple[Identity, PrivateCompute]:
    """An identity, whose key stays the same, and a service over it."""
    identity = Identity(DevelopmentAttester(), release_digest=RELEASE, model_id=MODEL_ID, now_s=lambda: 1.8e9)
    return identity, PrivateCompute(ShortEngine(), identity, Admission(running=1, waiting=1))


@cache
def offered() -> tuple[PublicKey, bytes]:
    """The key that the node offers, and the digest of what vouches for it."""
    evidence = node()[0].evidence(bytes(32))
    return public_key(KeyConfig.FromString(evidence.key_config).public_key), evidence_digest(evidence.type, evidence.key_config)


def _sealed_seed(_: Random) -> bytes:
    """A fresh request, for none is opened twice."""
    key, digest = offered()
    sealed, _ = seal_request(b"request", key, Binding(digest, RELEASE))
    message = SealedRequest(suite=SUITE, evidence_digest=digest, encapsulation=sealed.encapsulation, ciphertext=sealed.ciphertext)
    return message.SerializeToString()


def _evidence_request() -> bytes:
    return EvidenceRequest(nonce=bytes(32)).SerializeToString()


def sealed(raw: bytes) -> None:
    """What comes over the wire."""
    node()[0].open(SealedRequest.FromString(raw))


def inner(raw: bytes) -> None:
    """What was sealed to the node, up to the answer that leaves it."""
    _check_answer(*asyncio.run(_chunks(node()[1], raw)))


def evidence(raw: bytes) -> None:
    """What asks for evidence."""
    node()[0].evidence(EvidenceRequest.FromString(raw).nonce)


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


def _check_answer(padding: Padding, chunks: list[bytes]) -> None:
    """Parts, then what ends it. Raises RefusedUnderSeal."""
    if padding is Padding.CONSTANT:
        reader = RecordReader()
        chunks = [message for chunk in chunks for message in reader.feed(chunk)]
        reader.close()
    *begun, last = map(GenerateResponse.FromString, chunks)
    assert all(response.WhichOneof("response") in ("chunk", "chunks") for response in begun)
    kind = last.WhichOneof("response")
    assert kind in ("complete", "error")
    if kind == "error":
        raise RefusedUnderSeal(last.error.message)


def _inner_seed(random: Random) -> bytes:
    """A request with a value for everything, or for little."""
    request = GenerateRequest(text="a", task=random.choice((TASK_TEXT, TASK_CALL)), stream=random.random() < 0.7)
    if random.random() < 0.7:
        sampling = SamplingParams(temperature=0.5, top_p=0.9, top_k=3, seed=1, max_tokens=4, logprobs=0, stop=["x"])
        request.MergeFrom(GenerateRequest(request_id="b", prefix="c", sampling_params=sampling))
    if random.random() < 0.4:
        request.cadence.CopyFrom(Cadence(period_ms=50, frames=8))
    return request.SerializeToString()


TARGETS = (
    Target(
        "node.sealed", drawn(_sealed_seed, changed_message(SealedRequest)), sealed, (Refused, DecodeError)
    ),  # DecodeError: the guard's MALFORMED
    Target("node.inner", drawn(_inner_seed, changed_message(GenerateRequest)), inner, (Refused, RefusedUnderSeal)),
    Target("node.evidence", fixed(_evidence_request, changed_message(EvidenceRequest)), evidence, (Refused, DecodeError)),
)
