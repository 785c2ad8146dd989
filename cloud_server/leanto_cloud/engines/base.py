"""The small interface behind which every engine sits. Knows nothing of seals, gRPC or any particular engine."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Literal, Protocol

from leanto_cloud.errors import InvalidRequest

Task = Literal["call", "text"]
FinishReason = Literal["stop", "length"]

MAX_SEED = 2**63 - 1


@dataclass(frozen=True, slots=True)
class EngineRequest:
    """One thing to generate. `prefix` is the part of a text answer that is already accepted: generation goes on after it."""

    prompt: str = field(repr=False)
    task: Task = "text"
    prefix: str = field(default="", repr=False)
    max_tokens: int = 128
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int | None = None
    stop: tuple[str, ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        """Raise InvalidRequest for a value outside its range."""
        if not self.prompt.strip():
            raise InvalidRequest("the prompt is empty; say what you want")
        if self.max_tokens < 1:
            raise InvalidRequest("max_tokens must be at least 1")
        if not (math.isfinite(self.temperature) and 0.0 <= self.temperature < 100.0):
            raise InvalidRequest("temperature must be in [0, 100)")
        if not 0.0 < self.top_p <= 1.0:
            raise InvalidRequest("top_p must be in (0, 1]")
        if self.seed is not None and not 0 <= self.seed <= MAX_SEED:
            raise InvalidRequest("a seed is a number from 0 to 2^63 - 1")
        if any(not text for text in self.stop):
            raise InvalidRequest("a stop text is empty; leave it out")
        if self.prefix and self.task == "call":
            raise InvalidRequest("a call is atomic; it cannot go on from a prefix")


@dataclass(frozen=True, slots=True)
class EngineToken:
    """One token. `logprob` is natural, at temperature 1 over the full vocabulary; `text` is what became readable with it."""

    id: int = field(repr=False)
    text: str = field(repr=False)
    logprob: float
    finish_reason: FinishReason | None = None


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What an engine can do. `model_id` is name@build_hash; `logprobs` False means it says so rather than leave them out."""

    model_id: str
    tasks: frozenset[Task]
    logprobs: bool
    context_length: int


@dataclass(frozen=True, slots=True)
class Load:
    """How busy an engine is: generations running, and how many may run at once."""

    running: int
    capacity: int


class Engine(Protocol):
    """What a node runs. Closing a generation's iterator stops its work; `aclose` returns once it has stopped."""

    @property
    def capabilities(self) -> Capabilities:
        """What this engine can do."""
        ...

    def prompt_tokens(self, request: EngineRequest) -> int:
        """How many tokens the prompt and prefix make. Raises RequestError."""
        ...

    def generate(self, request: EngineRequest) -> AsyncGenerator[EngineToken]:
        """Tokens as they are made; the last has a finish reason. Raises RequestError before the first."""
        ...

    def load(self) -> Load:
        """How busy it is now."""
        ...

    def healthy(self) -> bool:
        """Whether it can take requests."""
        ...

    def close(self) -> None:
        """Give back threads and memory."""
        ...
