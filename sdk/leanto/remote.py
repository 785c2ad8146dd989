"""The cloud leg: one private compute node, as the cascade sees it. Values, address rules, and the life of a call.

Imports neither gRPC nor the wire until the first call (`leanto.sealed_session`). Knows nothing of policies or of the edge.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

from leanto.breaker import Breaker
from leanto.clock import Clock
from leanto.errors import CloudUnavailable, EvidenceRefused, Fault, ProtocolFault, TargetError
from leanto.hedging import hedged
from leanto.request import Ask

if TYPE_CHECKING:
    from leanto.sealed_session import SealedSession
    from leanto_wire.claims import Claims
    from leanto_wire.policies import HardwarePolicy

PaddingLevel = Literal["blocks", "buckets", "constant"]

__all__ = ["RemoteCall", "RemoteChunk", "RemoteLeg", "RemoteRequest", "RemoteTarget", "Tls"]


_ADDRESS = re.compile(r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<host>[A-Za-z0-9][A-Za-z0-9._-]*)):(?P<port>[0-9]{1,5})")


@dataclass(frozen=True, slots=True)
class Tls:
    """TLS to the node. `root_certificates` is a PEM file (None: gRPC's own roots); `server_name` replaces the one in the address.

    `client_certificate` and `client_key` (PEM files) show a node with mutual TLS who asks.
    """

    root_certificates: str | Path | None = None
    server_name: str | None = None
    client_certificate: str | Path | None = None
    client_key: str | Path | None = None


@dataclass(frozen=True, slots=True)
class ReleaseLog:
    """A log in which the node's release must stand. Keys are written name+id+base64; `quorum` of the `witnesses` must have cosigned.

    `store` is the file that keeps the last checkpoint; `tiles` the log's address, needed once it has grown.
    """

    key: str
    store: str | Path
    witnesses: tuple[str, ...] = ()
    quorum: int = 0
    tiles: str | None = None


@dataclass(frozen=True, slots=True)
class TokenSource:
    """Where one-time tokens come from: the issuer's URL, and `name` (None: its host) and `origin` as the node's challenge has them.

    The account's key is in the environment variable `account_env`; tokens are kept in the file `store`, and fetched `batch` at a time.
    `keys` (SHA-256, hex) are the issuer's keys that are taken; empty takes those that it lists.
    """

    issuer: str
    origin: str
    store: str | Path
    account_env: str = "LEANTO_TOKEN_ACCOUNT"
    batch: int = 32
    name: str | None = None
    keys: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Relay:
    """A relay's URL, and the key of the gateway behind it (base64), which `leanto-cloud gateway` prints."""

    url: str
    gateway_key: str


@dataclass(frozen=True, slots=True)
class RemoteTarget:
    """Where a node is and what it must prove.

    `address` is host:port. `development_root` (base64, from the node's ready file) names the one root whose development
    evidence is accepted; `evidence` (a policy of leanto_wire.policies) says what its hardware must prove instead. One of the two.
    Without `tls` only loopback addresses are used. `padding` "constant" paces answers: a frame every `cadence_ms`, and a multiple of
    `cadence_frames` of them. `suites` are the numbers that the node may serve. With `hedge_after_s`, an answer that has not begun by
    then is asked for once more over another connection, and the first to begin is taken: for nodes behind one balanced address.
    """

    address: str
    development_root: str | None = None
    tls: Tls | None = None
    padding: PaddingLevel = "blocks"
    cadence_ms: int = 50
    cadence_frames: int = 32
    suites: tuple[int, ...] = (1,)
    log: ReleaseLog | None = None
    tokens: TokenSource | None = None
    relay: Relay | None = None  # the address is then a name alone: nobody dials it, and `tls` is for the relay
    hedge_after_s: float | None = None
    evidence: HardwarePolicy | None = None


@dataclass(frozen=True, slots=True)
class RemoteRequest:
    """What to ask. `prefix` is the accepted part of a text answer; `timeout_s` covers everything, evidence included."""

    prompt: str
    task: Literal["call", "text"] = "text"
    prefix: str = ""
    max_tokens: int = 128
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    timeout_s: float = 30.0


def remote_request(ask: Ask, timeout_s: float, *, prefix: str = "", kept_tokens: int = 0) -> RemoteRequest:
    """What to ask of a node for `ask`, of which `prefix` and so many tokens stand already."""
    sampling = (ask.temperature, ask.top_p, ask.top_k, ask.seed, ask.stop)
    return RemoteRequest(ask.prompt, ask.task, prefix, max(1, ask.max_tokens - kept_tokens), *sampling, timeout_s)


@dataclass(frozen=True, slots=True)
class RemoteChunk:
    """Part of an answer. `logprobs` (natural, one for each token id) at temperature 1; the last chunk has a finish reason."""

    text: str
    token_ids: tuple[int, ...] = ()
    logprobs: tuple[float, ...] = ()
    finish_reason: str | None = None


@dataclass(slots=True)
class Meter:
    """Bytes of gRPC messages with their 5-byte prefixes; TLS and HTTP/2 headers are not in it."""

    sent: int = 0
    received: int = 0


class RemoteCall:
    """One call: an async iterator of RemoteChunk. Closing it cancels the work on the node."""

    def __init__(self, chunks: AsyncGenerator[RemoteChunk, None], meter: Meter) -> None:
        self._chunks = chunks
        self._meter = meter

    @property
    def bytes_sent(self) -> int:
        """Message bytes sent so far, evidence included."""
        return self._meter.sent

    @property
    def bytes_received(self) -> int:
        """Message bytes received so far, evidence included."""
        return self._meter.received

    def __aiter__(self) -> RemoteCall:
        return self

    async def __anext__(self) -> RemoteChunk:
        return await anext(self._chunks)

    async def aclose(self) -> None:
        """Cancel, or free what is left of a finished call."""
        await self._chunks.aclose()


class RemoteLeg:
    """The way to one node. Belongs to one event loop. Raises TargetError for an address or root that cannot be used."""

    def __init__(self, target: RemoteTarget, *, clock: Clock | None = None) -> None:
        self._dial = dial_target(target)
        self._target = target
        self._clock = clock or Clock()
        self._breaker = Breaker(self._clock)
        self._sessions: dict[int, SealedSession] = {}  # the second is for hedging
        self._answering = 0

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
        """Time to the node and back, as its evidence took it lately; None before the first call."""
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
            async with aclosing(self._ask(request, until, meter)) as chunks:
                async for chunk in chunks:
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

    def _ask(self, request: RemoteRequest, until: float, meter: Meter) -> AsyncGenerator[RemoteChunk, None]:
        """The answer over one connection, or over the faster of two. Each seals for itself; the meter counts both."""

        async def over(place: int) -> AsyncGenerator[RemoteChunk, None]:
            async with aclosing(self._open_session(place).generate(request, until, meter)) as chunks:
                async for chunk in chunks:
                    self._answering = place
                    yield chunk

        after_s = self._target.hedge_after_s
        return over(0) if after_s is None else hedged(over, after_s)

    def _open_session(self, place: int = 0) -> SealedSession:
        if place not in self._sessions:
            from leanto.sealed_session import SealedSession

            self._sessions[place] = SealedSession(self._target, self._dial, self._clock)
        return self._sessions[place]


def dial_target(target: RemoteTarget) -> str:
    """The gRPC name of `target`, or its relay's URL. Raises TargetError for another form, and for plaintext beyond this machine."""
    if target.tokens is not None:
        _check_url(target.tokens.issuer, "issuer")
    parts = _ADDRESS.fullmatch(target.address)
    if parts is None or not 0 < int(parts["port"]) < 65536:
        raise TargetError(f"the cloud address {target.address!r} is not host:port")
    host, port = parts["v6"] or parts["host"], parts["port"]
    if target.relay is not None:
        return relay_url(target.relay)
    name = "127.0.0.1" if host == "localhost" else host  # no resolver decides what this machine is
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        if target.tls is None:
            raise TargetError(f"{target.address}: plaintext only goes to a loopback address; give TLS for another machine") from None
        return f"dns:///{host}:{port}"
    if target.tls is None and not address.is_loopback:
        raise TargetError(f"{target.address}: plaintext only goes to a loopback address; give TLS for another machine")
    return f"ipv6:[{address}]:{port}" if address.version == 6 else f"ipv4:{address}:{port}"


def relay_url(relay: Relay) -> str:
    """The URL to post to. Raises TargetError for other than https, or http on this machine."""
    return _check_url(relay.url, "relay")


def _check_url(url: str, what: str) -> str:
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        parts, host = urlsplit(""), None
    if parts.scheme not in ("https", "http") or not host or "@" in parts.netloc or parts.query or parts.fragment:
        raise TargetError(f"the {what} {url!r} is not https://HOST[:PORT]")
    if parts.scheme == "http" and not is_loopback(host):
        raise TargetError(f"the {what} {url!r}: plaintext only goes to a loopback address; use https")
    return url.replace("//localhost", "//127.0.0.1", 1)


def is_loopback(host: str) -> bool:
    """Whether `host` is this machine, by its name alone."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
