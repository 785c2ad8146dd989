"""One call of a node: what is asked, the parts of the answer, and the bytes that it took."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Literal

from leanto.request import Ask


@dataclass(frozen=True, slots=True)
class RemoteRequest:
    """What to ask. `prefix` is the accepted part of a text answer; `timeout_s` covers everything, evidence included."""

    prompt: str = field(repr=False)
    task: Literal["call", "text"] = "text"
    prefix: str = field(default="", repr=False)
    max_tokens: int = 128
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int | None = None
    stop: tuple[str, ...] = field(default=(), repr=False)
    timeout_s: float = 30.0
    wants_rtt: bool = False  # a round trip must have been measured lately, or is measured now


def remote_request(ask: Ask, timeout_s: float, *, prefix: str = "", kept_tokens: int = 0, wants_rtt: bool = False) -> RemoteRequest:
    """What to ask of a node for `ask`, of which `prefix` and so many tokens stand already."""
    sampling = (ask.temperature, ask.top_p, ask.top_k, ask.seed, ask.stop)
    return RemoteRequest(ask.prompt, ask.task, prefix, max(1, ask.max_tokens - kept_tokens), *sampling, timeout_s, wants_rtt)


@dataclass(frozen=True, slots=True)
class RemoteChunk:
    """Part of an answer. `logprobs` (natural, one for each token id) at temperature 1; the last chunk has a finish reason."""

    text: str = field(repr=False)
    token_ids: tuple[int, ...] = field(default=(), repr=False)
    logprobs: tuple[float, ...] = ()
    finish_reason: str | None = None


Part = list[RemoteChunk]  # what one sealed chunk held: nothing, where it only keeps the cadence


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
