"""What the seal costs: tokens a second beside the same server unsealed, verification of cached evidence, and first contact.

`python -m benchmarks.sealing [--json] [--quick]`. One node process serves both; sealed and plain answers are asked in turn, over one
connection each. Plain messages exist in this benchmark alone.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import replace

from grpc import aio

from benchmarks.measure import Row, median, quantile, run_cli
from benchmarks.node import PLAIN, Variant, node, read_padded
from leanto.clock import Clock
from leanto.remote import RemoteChunk, RemoteLeg, RemoteRequest, RemoteTarget
from leanto.remote.call import Meter, Part
from leanto.remote.channel import OPTIONS
from leanto.remote.sealed_answer import Answer
from leanto.remote.sealed_session import SealedSession, _size
from leanto.remote.target import PaddingLevel, dial_target
from leanto_wire.claims import Claims
from leanto_wire.development import DevelopmentPolicy
from leanto_wire.evidence import verify
from leanto_wire.keys import public_key
from leanto_wire.report_data import NONCE_BYTES
from leanto_wire.seal import Binding
from leanto_wire.v1.inference_pb2 import GenerateRequest, GenerateResponse
from leanto_wire.v1.private_compute_pb2 import EvidenceRequest, EvidenceResponse
from leanto_wire.v1.private_compute_pb2_grpc import PrivateComputeStub

PROMPT = "once upon a time there was a little dog who"
ENGINES: tuple[tuple[str, Variant, int], ...] = (
    ("pocket-large", "plain too", 120),
    ("tokens at once", "plain too, fast engine", 8000),
)


def measure(quick: bool) -> list[Row]:
    """All rows."""
    rows: list[Row] = []
    for name, variant, tokens in ENGINES:
        with node(variant) as target:
            rows += asyncio.run(_streaming(name, target, tokens, 5 if quick else 41))
    with node() as target:
        rows.append(asyncio.run(_cached(target, 200 if quick else 2000)))
        rows.append(asyncio.run(_first_contact(target, 5 if quick else 41)))
    return rows


async def _streaming(engine: str, target: RemoteTarget, tokens: int, rounds: int) -> list[Row]:
    """Tokens a second of whole calls, sealed at each level that sends tokens as they are made, over those of plain ones."""
    request = RemoteRequest(PROMPT, "text", max_tokens=tokens, temperature=1.0, seed=1, timeout_s=60.0)
    levels: tuple[PaddingLevel, ...] = ("blocks", "buckets")
    plainly = {"plain": _PlainSession, "padded": _PaddedSession, "one by one": _OneByOneSession}
    legs = {name: _plain_leg(target, session) for name, session in plainly.items()}
    legs |= {level: RemoteLeg(replace(target, padding=level)) for level in levels}
    figures: dict[str, list[float]] = {name: [] for name in legs}
    for i in range(rounds + 2):
        for name, leg in legs.items():
            rate = await _rate(leg.generate(request))
            if i >= 2:  # the first warm up
                figures[name].append(rate)
    for leg in legs.values():
        await leg.close()
    plain, padded, one_by_one = (figures.pop(name) for name in plainly)
    return [
        {
            "what": f"streaming, {engine}",
            "level": level,
            "tokens/s sealed": median(sealed),
            "tokens/s plain": median(plain),
            "sealed/plain": _ratio(sealed, plain),
            "sealed/plain of the same size": _ratio(sealed, padded),
            "sealed/plain, a message a token": _ratio(sealed, one_by_one),
        }
        for level, sealed in figures.items()
    ]


def _ratio(ours: list[float], theirs: list[float]) -> float:
    """The median over rounds: both were asked within one."""
    return median([one / other for one, other in zip(ours, theirs, strict=True)])


async def _rate(answer: AsyncIterator[RemoteChunk]) -> float:
    """Tokens a second from the call to its end."""
    start, tokens = time.perf_counter(), 0
    async for chunk in answer:
        tokens += len(chunk.token_ids)
    return tokens / (time.perf_counter() - start)


class _PlainSession(SealedSession):
    """The same session without a seal: the same deadline, meter, checks and values."""

    method = "Generate"
    read: staticmethod[[bytes], GenerateResponse] = staticmethod(GenerateResponse.FromString)

    async def _exchange(
        self, message: bytes, request: RemoteRequest, claims: Claims, until: float, meter: Meter
    ) -> AsyncGenerator[Part, None]:
        write = GenerateRequest.SerializeToString
        ask = self._channel.unary_stream(f"/{PLAIN}/{self.method}", request_serializer=write, response_deserializer=self.read)
        outer = GenerateRequest.FromString(message)
        call = ask(outer, timeout=self._left_s(until))
        meter.sent += _size(outer)
        answer = Answer(_Unsealed(), None, claims.model_id, request.max_tokens, self._address)  # type: ignore[arg-type]
        try:
            async for response in call:
                meter.received += _size(response)
                yield answer._read(response)
            yield [answer.finish()]
        finally:
            call.cancel()


class _OneByOneSession(_PlainSession):
    """Without a seal, and a message for each token."""

    method = "GenerateOneByOne"


class _PaddedSession(_PlainSession):
    """Without a seal, but with messages of the same size."""

    method = "GeneratePadded"
    read = staticmethod(read_padded)


class _Unsealed:
    """In the place of what opens an answer."""

    def close(self) -> None:
        """Nothing says where a plain answer ends."""


def _plain_leg(target: RemoteTarget, session: type[_PlainSession]) -> RemoteLeg:
    leg = RemoteLeg(target)
    leg._sessions[0] = session(target, dial_target(target), Clock())
    return leg


async def _cached(target: RemoteTarget, calls: int) -> Row:
    """What verified evidence costs a request once it is at hand: the look at its expiry, and the key and binding it gives."""
    session = SealedSession(target, dial_target(target), Clock())
    await session.verified(time.monotonic() + 10, Meter())
    figures = []
    for _ in range(calls):
        start = time.perf_counter()
        claims = await session.verified(time.monotonic() + 10, Meter())
        public_key(claims.public_key)
        Binding(claims.evidence_digest, claims.release_digest).info(claims.suite)
        figures.append(1000 * (time.perf_counter() - start))
    evidence, nonce, policy = await _evidence(target)
    again = []
    for _ in range(calls):
        start = time.perf_counter()
        verify(evidence, policy, time.time(), nonce)
        again.append(1000 * (time.perf_counter() - start))
    await session.close()
    return {
        "what": "verification of cached evidence, a request",
        "p50 ms": median(figures),
        "p99 ms": quantile(figures, 0.99),
        "verified anew, p50 ms": median(again),
        "verified anew, p99 ms": quantile(again, 0.99),
    }


async def _evidence(target: RemoteTarget) -> tuple[EvidenceResponse, bytes, DevelopmentPolicy]:
    nonce = secrets.token_bytes(NONCE_BYTES)
    async with aio.insecure_channel(target.address, options=OPTIONS) as channel:
        evidence = await PrivateComputeStub(channel).GetEvidence(EvidenceRequest(nonce=nonce))
    return evidence, nonce, DevelopmentPolicy.from_base64(target.development_root or "")


async def _first_contact(target: RemoteTarget, rounds: int) -> Row:
    """A new channel, evidence and its verification; every module is loaded."""
    figures = []
    for _ in range(rounds + 1):
        leg = RemoteLeg(target)
        start = time.perf_counter()
        await leg.evidence()
        figures.append(1000 * (time.perf_counter() - start))
        await leg.close()
    return {"what": "first contact: channel, evidence, verification", "p50 ms": median(figures[1:]), "p99 ms": quantile(figures[1:], 0.99)}


if __name__ == "__main__":
    run_cli("sealing", measure)
