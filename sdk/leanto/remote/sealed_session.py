"""One channel to one node: evidence verified before anything leaves, then sealed calls. Where the SDK meets gRPC and the wire.

A server's own words reach no error message: what a status says is told in ours. Knows nothing of policies or of the edge.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import secrets
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # gRPC's core would write to the application's stderr; read at its first import

from google.protobuf.message import Message
from grpc import StatusCode, aio

from leanto.clock import Clock
from leanto.errors import CloudUnavailable, DeadlineExceeded, EvidenceRefused, Fault, PromptRefused, ProtocolFault, TargetError
from leanto.remote.call import Meter, Part, RemoteRequest
from leanto.remote.channel import open_channel
from leanto.remote.sealed_answer import Answer
from leanto.remote.target import RemoteTarget
from leanto_wire.claims import Claims
from leanto_wire.development import DevelopmentPolicy
from leanto_wire.errors import EvidenceError, SealError
from leanto_wire.evidence import Policy, verify
from leanto_wire.frame import Padding, frame_bytes
from leanto_wire.keys import public_key
from leanto_wire.report_data import NONCE_BYTES
from leanto_wire.seal import MAX_MESSAGE_BYTES, Binding, Sealed, seal_request
from leanto_wire.v1.inference_pb2 import (
    TASK_CALL,
    TASK_TEXT,
    Cadence,
    GenerateRequest,
    SamplingParams,
)
from leanto_wire.v1.private_compute_pb2 import EvidenceRequest, SealedRequest
from leanto_wire.v1.private_compute_pb2_grpc import PrivateComputeStub

if TYPE_CHECKING:
    from leanto.remote.release_log import LogReader
    from leanto.remote.wallet import Wallet

_logger = logging.getLogger("leanto")

EVIDENCE_TIMEOUT_S = 5.0
ATTEMPTS = 3
RECONNECT_S = 0.15  # before the last attempt: gRPC tries a lost connection again after about 0.1 s, and refuses calls until then
RTT_WEIGHT = 0.5  # of the newest; evidence is fetched seldom
RTT_EXPIRES_S = 600.0
_PREFIX_BYTES = 5  # gRPC's, before each message

_TRY_AGAIN_NOW = (StatusCode.UNAVAILABLE, StatusCode.FAILED_PRECONDITION, StatusCode.CANCELLED)  # CANCELLED by a node that drains


class SealedSession:
    """The channel, and the claims it was verified to stand for."""

    def __init__(self, target: RemoteTarget, dial: str, clock: Clock, on_evidence: Callable[[Claims], None] = lambda _: None) -> None:
        self.claims: Claims | None = None
        self._rtt_ms = 0.0
        self._rtt_at = -math.inf
        self._address = target.address
        self._policy = _policy(target)
        self._log = _log_reader(target)
        self._suites = target.suites
        self._padding = Padding[target.padding.upper()]
        self._cadence = Cadence(period_ms=target.cadence_ms, frames=target.cadence_frames) if target.padding == "constant" else None
        self._clock = clock
        self._on_evidence = on_evidence
        self._closed = False
        self._wallet = _wallet(target, clock)
        self._channel, self._stub = _connect(target, dial)

    async def verified(self, until: float, meter: Meter) -> Claims:
        """The node's claims: those at hand until they expire, else fresh evidence, verified against a fresh nonce."""
        try:
            return await self._current_claims(until, meter)
        except aio.AioRpcError as error:
            raise self._fault(error) from None

    async def generate(self, request: RemoteRequest, until: float, meter: Meter) -> AsyncGenerator[Part, None]:
        """The answer, sealed chunk by sealed chunk. Tried again, sealed again, only while none has come, not even an empty one."""
        message = inner_message(request, self._padding, self._cadence)
        for attempt in range(1, ATTEMPTS + 1):
            started = False
            try:
                claims = await self._current_claims(until, meter, wants_rtt=request.wants_rtt)
                async with aclosing(self._exchange(message, request, claims, until, meter)) as parts:
                    async for part in parts:
                        started = True
                        yield part
                return
            except aio.AioRpcError as error:
                if started or self._closed or attempt == ATTEMPTS or error.code() not in _TRY_AGAIN_NOW:
                    raise self._fault(error) from None
                self.claims = None  # a restarted node has another key
                if attempt > 1:
                    await asyncio.sleep(min(RECONNECT_S, self._left_s(until)))
            except asyncio.CancelledError:
                if self._closed and not _cancelled():
                    raise CloudUnavailable(f"the connection to {self._address} was closed") from None
                raise
            except SealError as error:
                raise ProtocolFault(f"{self._address}: {error}") from None

    async def close(self) -> None:
        """Close the channel; calls under way end."""
        self._closed = True
        await self._channel.close()
        if self._wallet is not None:
            await self._wallet.close()

    @property
    def rtt_ms(self) -> float | None:
        """Of the last evidence, weighted; None once nobody can say any more, so that a node found far away is tried again."""
        return self._rtt_ms if 0 <= self._clock.monotonic() - self._rtt_at < RTT_EXPIRES_S else None

    async def _current_claims(self, until: float, meter: Meter, *, wants_rtt: bool = False) -> Claims:
        due = wants_rtt and self.rtt_ms is None
        if self.claims is None or self.claims.expires_s <= self._clock.wall() or due:
            self.claims = None
            self.claims = await self._fetch_claims(until, meter)
        return self.claims

    async def _fetch_claims(self, until: float, meter: Meter) -> Claims:
        nonce = secrets.token_bytes(NONCE_BYTES)
        request = EvidenceRequest(nonce=nonce)
        left_s = self._left_s(until)
        began = self._clock.monotonic()
        meter.sent += _size(request)
        try:
            evidence = await self._stub.GetEvidence(request, timeout=min(left_s, EVIDENCE_TIMEOUT_S))
        except aio.AioRpcError as error:
            if error.code() is StatusCode.DEADLINE_EXCEEDED and left_s > EVIDENCE_TIMEOUT_S:
                raise CloudUnavailable(f"{self._address} gave no evidence within {EVIDENCE_TIMEOUT_S:.0f} s", retryable=True) from None
            raise
        meter.received += _size(evidence)
        took_ms = 1000 * (self._clock.monotonic() - began)
        before, self._rtt_at = self.rtt_ms, self._clock.monotonic()
        self._rtt_ms = took_ms if before is None else RTT_WEIGHT * took_ms + (1 - RTT_WEIGHT) * before
        try:
            claims = verify(evidence, self._policy, self._clock.wall(), nonce, suites=self._suites)
            if self._log:
                claims = await asyncio.to_thread(self._log.check, evidence.release_proof, claims)
        except EvidenceError as error:
            raise EvidenceRefused(f"{self._address}: {error}; nothing was sent", claim=error.claim) from None
        self._show(claims)
        return claims

    def _show(self, claims: Claims) -> None:
        """To whoever wants to see them before anything is sealed to them. Raises EvidenceRefused if they are not good enough."""
        for claim in claims.claims:
            line = "%s, %s evidence: %s %s; proves: %s; not proven: %s; rests on: %s"
            parties = ", ".join(claim.trusted_parties)
            said = (claim.name, claim.value, claim.proves, claim.does_not_prove, parties)
            _logger.info(line, self._address, claims.evidence_type, *said)
        try:
            self._on_evidence(claims)
        except EvidenceRefused:
            raise
        except Exception as error:
            what = f"{self._address}: the application refused the node's evidence ({type(error).__name__}); nothing was sent"
            raise EvidenceRefused(what, claim="application") from error

    async def _exchange(
        self, message: bytes, request: RemoteRequest, claims: Claims, until: float, meter: Meter
    ) -> AsyncGenerator[Part, None]:
        """One sealed request and its answer. The finish is told only once the stream has ended where the seal says."""
        token = await self._wallet.take() if self._wallet else b""
        binding = Binding(claims.evidence_digest, claims.release_digest, token)
        sealed, opener = seal_request(message, public_key(claims.public_key), binding, padding=self._padding, suite=claims.suite)
        outer = _outer(sealed, claims, token)
        call = self._stub.Generate(outer, timeout=self._left_s(until))
        meter.sent += _size(outer)
        answer = Answer(opener, self._cadence, claims.model_id, request.max_tokens, self._address)
        try:
            async for chunk in call:
                meter.received += _size(chunk)
                yield answer.take(chunk)
            yield [answer.finish()]
        finally:
            call.cancel()

    def _left_s(self, until: float) -> float:
        left_s = until - self._clock.monotonic()
        if left_s <= 0:
            raise DeadlineExceeded("no time left for the cloud")
        return left_s

    def _fault(self, error: aio.AioRpcError) -> Fault:
        return _FAULTS.get(error.code(), _broken_protocol)(self._address)


def inner_message(request: RemoteRequest, padding: Padding, cadence: Cadence | None) -> bytes:
    """The message to seal. Raises PromptRefused for what the wire cannot carry."""
    try:
        message = GenerateRequest(
            request_id=secrets.token_hex(8),
            text=request.prompt,
            task=TASK_CALL if request.task == "call" else TASK_TEXT,
            prefix=request.prefix,
            stream=True,
            sampling_params=SamplingParams(
                temperature=request.temperature,
                top_p=request.top_p,
                top_k=request.top_k,
                max_tokens=request.max_tokens,
                stop=request.stop,
                seed=request.seed,
                logprobs=0,
            ),
            cadence=cadence,
        ).SerializeToString()
    except (ValueError, TypeError):
        raise PromptRefused("the prompt is not valid UTF-8, or a sampling parameter is out of range") from None
    if len(message) > MAX_MESSAGE_BYTES:
        raise PromptRefused(f"the prompt takes {len(message)} bytes, the wire carries {MAX_MESSAGE_BYTES}; shorten it")
    try:
        frame_bytes(len(message), "request", padding)
    except SealError as error:
        raise PromptRefused(f"the prompt is too long: {error}") from None
    return message


def _outer(sealed: Sealed, claims: Claims, token: bytes) -> SealedRequest:
    return SealedRequest(
        suite=claims.suite,
        evidence_digest=claims.evidence_digest,
        encapsulation=sealed.encapsulation,
        ciphertext=sealed.ciphertext,
        token=token,
    )


def _cancelled() -> bool:
    """Whether somebody asked the running task to stop: gRPC raises the same for a channel that was closed under a call."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _size(message: Message) -> int:
    return message.ByteSize() + _PREFIX_BYTES


def _policy(target: RemoteTarget) -> Policy:
    """What the node must prove: its hardware, or, where nothing asks for that, possession of a key; and the log that it must name."""
    policy = _machine_policy(target)
    return policy if target.log is None else replace(policy, log_origin=target.log.key.partition("+")[0])


def _machine_policy(target: RemoteTarget) -> Policy:
    if target.evidence is not None:
        if target.development_root is not None:
            raise TargetError(f"{target.address}: a target has either evidence or a development root")
        return target.evidence
    if target.development_root is None:
        raise TargetError(f"{target.address}: say what the node must prove: its evidence, or a development root that must have signed it")
    try:
        return DevelopmentPolicy.from_base64(target.development_root)
    except ValueError as error:
        raise TargetError(f"{target.address}: {error}") from None


def _log_reader(target: RemoteTarget) -> LogReader | None:
    if target.log is None:
        return None
    from leanto.remote.release_log import LogReader

    return LogReader(target.log)


def _wallet(target: RemoteTarget, clock: Clock) -> Wallet | None:
    if target.tokens is None:
        return None
    from leanto.remote.wallet import Wallet

    return Wallet(target.tokens, clock)


def _connect(target: RemoteTarget, dial: str) -> tuple[aio.Channel, Any]:
    """A channel with its stub, or what stands for both where a relay is in between."""
    if target.relay is None:
        channel = open_channel(dial, target.tls)
        return channel, PrivateComputeStub(channel)
    from leanto.remote.relayed import RelayedNode

    node: Any = RelayedNode(target, target.relay)
    return node, node


def _broken_protocol(address: str) -> Fault:
    return ProtocolFault(f"{address} does not speak leanto.v1 as this client does; check the address and both versions")


_FAULTS: dict[StatusCode, Callable[[str], Fault]] = {
    StatusCode.UNAVAILABLE: lambda at: CloudUnavailable(f"{at} cannot be reached or went away; check that it runs", retryable=True),
    StatusCode.RESOURCE_EXHAUSTED: lambda at: CloudUnavailable(f"{at} is busy; try again later", retryable=True),
    StatusCode.FAILED_PRECONDITION: lambda at: CloudUnavailable(f"{at} changed its key twice in a row; try again", retryable=True),
    StatusCode.INTERNAL: lambda at: CloudUnavailable(f"{at} failed inside", retryable=True),
    StatusCode.UNKNOWN: lambda at: CloudUnavailable(f"{at} failed inside", retryable=True),
    StatusCode.UNAUTHENTICATED: lambda at: CloudUnavailable(f"{at} takes one-time tokens, and not this one; check [targets.cloud.tokens]"),
    StatusCode.CANCELLED: lambda at: CloudUnavailable(f"{at} cancelled the answer", retryable=True),
    StatusCode.DEADLINE_EXCEEDED: lambda at: DeadlineExceeded(f"{at} did not answer in time"),
}
