"""What a stream yields, and the reply at its end. Knows nothing of how they come about."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from leanto.decision import Decision, Target


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer. `call` is the parsed JSON of a call; `confidence` is the edge's in its own answer (see Decision); joules or None."""

    text: str = field(repr=False)
    route: str
    confidence: float | None
    decision: Decision
    energy_j: float | None
    tokens: int
    latency_ms: float
    call: dict[str, Any] | None = field(default=None, repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, the decision record included."""
        plain = {"text": self.text, "call": self.call, "route": self.route, "label": self.decision.label, "confidence": self.confidence}
        plain |= {"tokens": self.tokens, "latency_ms": self.latency_ms, "energy_j": self.energy_j}
        return {**plain, "decision": self.decision.to_dict()}


@dataclass(frozen=True, slots=True)
class TextEvent:
    """Text to show, in order; nothing comes twice. `source` is the target it came from."""

    text: str = field(repr=False)
    source: Target


@dataclass(frozen=True, slots=True)
class HandoffEvent:
    """The answer changes hands after `visible_chars` characters were shown."""

    reason: str
    source: Target
    target: Target
    visible_chars: int


@dataclass(frozen=True, slots=True)
class RestartEvent:
    """Only with `resume = "restart"`: drop everything shown so far, the answer begins anew."""

    dropped_chars: int


@dataclass(frozen=True, slots=True)
class FinalEvent:
    """The last event: the whole reply."""

    reply: Reply


Event = TextEvent | HandoffEvent | RestartEvent | FinalEvent


async def whole(stream: AsyncGenerator[Event, None]) -> Reply:
    """The reply that a stream ends in."""
    async with aclosing(stream) as events:
        async for event in events:
            if isinstance(event, FinalEvent):
                return event.reply
    raise AssertionError("a stream ends in FinalEvent or raises")
