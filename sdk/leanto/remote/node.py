"""The cloud leg: one private compute node, as the cascade sees it, and the life of a call.

Imports neither gRPC nor the wire until the first call (`sealed_session`). Knows nothing of policies or of the edge.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING

from leanto.clock import Clock
from leanto.errors import CloudUnavailable, DeadlineExceeded, EvidenceRefused, Fault, ProtocolFault
from leanto.remote.breaker import Breaker
from leanto.remote.call import Meter, Part, RemoteCall, RemoteChunk, RemoteRequest
from leanto.remote.hedging import hedged
from leanto.remote.target import RemoteTarget, dial_target

if TYPE_CHECKING:
    from leanto.remote.sealed_session import SealedSession
    from leanto_wire.claims import Claims


class RemoteLeg:
    """The way to one node. Belongs to one event loop. Raises TargetError for an address or root that cannot be used.

    `on_evidence` gets the node's verified claims before anything is sealed to it, and again when they change; what it raises refuses them.
    """

    def __init__(self, target: RemoteTarget, *, clock: Clock | None = None, on_evidence: Callable[[Claims], None] | None = None) -> None:
        self._dial = dial_target(target)
        self._target = target
        self._clock = clock or Clock()
        self._breaker = Breaker(self._clock)
        self._sessions: dict[int, SealedSession] = {}  # the second is for hedging
        self._answering = 0
        self._on_evidence = on_evidence
        self._shown: object = None

    @property
    def model_id(self) -> str | None:
        """name@build_hash of the model that the node's verified evidence names; None before the first call."""
        claims = self._claims
        return claims.model_id if claims else None

    @property
    def evidence_id(self) -> str | None:
        """Type and digest of the node's verified evidence, as "sev-snp:9f05…"; None before the first call."""
        claims = self._claims
        return f"{claims.evidence_type}:{claims.evidence_digest.hex()}" if claims else None

    @property
    def rtt_ms(self) -> float | None:
        """Time to the node and back, as its evidence took it lately; None where that was long ago."""
        session = self._sessions.get(self._answering)
        return session.rtt_ms if session else None

    @property
    def _claims(self) -> Claims | None:
        session = self._sessions.get(self._answering)
        return session.claims if session else None

    def generate(self, request: RemoteRequest) -> RemoteCall:
        """Start a call. Everything that can fail fails with the first chunk.

        Raises CloudUnavailable, EvidenceRefused, DeadlineExceeded, ProtocolFault, PromptRefused.
        """
        meter = Meter()
        return RemoteCall(self._guarded(request, meter), meter)

    async def evidence(self, *, timeout_s: float = 10.0) -> Claims:
        """What the node proves, and what it does not. Raises the same errors as `generate`."""
        until = self._clock.monotonic() + timeout_s
        async with self._in_time(until):
            return await self._open_session().verified(until, Meter())

    async def close(self) -> None:
        """Close the channels."""
        sessions, self._sessions = self._sessions, {}
        for session in sessions.values():
            await session.close()

    async def _guarded(self, request: RemoteRequest, meter: Meter) -> AsyncGenerator[RemoteChunk, None]:
        if self._breaker.wait_s > 0:
            wait_s = self._breaker.wait_s
            raise CloudUnavailable(f"{self._target.address} failed repeatedly; next try in {wait_s:.0f} s", retryable=True)
        until = self._clock.monotonic() + request.timeout_s
        try:
            async with aclosing(self._ask(request, until, meter)) as parts:
                while (part := await self._next(parts, until)) is not None:
                    for chunk in part:
                        if chunk.finish_reason is not None:
                            self._breaker.succeeded()
                        yield chunk
        except Fault as fault:
            if meter.sent and (fault.retryable or isinstance(fault, EvidenceRefused | ProtocolFault)):
                self._breaker.failed()  # the rest says nothing about the node's health
            raise
        except (asyncio.CancelledError, GeneratorExit):
            if self._clock.monotonic() >= until:  # a caller that stops waiting just when the time is up
                self._breaker.failed()
            raise

    async def _next(self, parts: AsyncGenerator[Part, None], until: float) -> Part | None:
        async with self._in_time(until):
            return await anext(parts, None)

    @asynccontextmanager
    async def _in_time(self, until: float) -> AsyncIterator[None]:
        """No step of a call lasts longer: not the issuer's, not the log's, not one that gRPC or a relay should have ended."""
        try:
            async with asyncio.timeout(max(0.0, until - self._clock.monotonic())):
                yield
        except TimeoutError:
            raise DeadlineExceeded(f"{self._target.address} did not answer in time") from None

    def _ask(self, request: RemoteRequest, until: float, meter: Meter) -> AsyncGenerator[Part, None]:
        """The answer over one connection, or over the faster of two. Each seals for itself; the meter counts both."""

        async def over(place: int) -> AsyncGenerator[Part, None]:
            async with aclosing(self._open_session(place).generate(request, until, meter)) as parts:
                async for part in parts:
                    self._answering = place
                    yield part

        after_s = self._target.hedge_after_s
        return over(0) if after_s is None else hedged(over, after_s)

    def _open_session(self, place: int = 0) -> SealedSession:
        if place not in self._sessions:
            from leanto.remote.sealed_session import SealedSession

            self._sessions[place] = SealedSession(self._target, self._dial, self._clock, self._show)
        return self._sessions[place]

    def _show(self, claims: Claims) -> None:
        """Once for both connections, and not again for evidence that says the same."""
        shown = (claims.evidence_digest, claims.claims)
        if self._on_evidence is not None and shown != self._shown:
            self._on_evidence(claims)
            self._shown = shown
