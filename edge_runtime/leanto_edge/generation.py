"""The values of one generation: what is asked, how to sample, and the tokens with their evidence.

Knows nothing of models, files or threads.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Task = Literal["call", "text"]
FinishReason = Literal["stop", "length"]


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How to choose tokens. `temperature` 0 is greedy; `top_k` 0 and `top_p` 1 filter nothing; `seed` None draws a fresh one."""

    max_tokens: int = 128
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int | None = None
    stop: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Raise ValueError for a value outside its range."""
        if self.max_tokens < 1:
            raise ValueError(f"max_tokens is {self.max_tokens}; it must be at least 1")
        if not 0.0 <= self.temperature < 100.0:
            raise ValueError(f"temperature is {self.temperature}; it must be in [0, 100)")
        if not 0.0 < self.top_p <= 1.0:
            raise ValueError(f"top_p is {self.top_p}; it must be in (0, 1]")
        if not 0 <= self.top_k < 1 << 31:
            raise ValueError(f"top_k is {self.top_k}; it must be 0 (off) or more, below 2^31")
        if self.seed is not None and not 0 <= self.seed < 1 << 64:
            raise ValueError(f"seed is {self.seed}; it must be in [0, 2^64)")
        if any(not text for text in self.stop):
            raise ValueError("a stop text is empty; leave it out")


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """One thing to generate.

    `task` "call" turns an utterance into one JSON call; "text" continues the prompt. `prefix` is the part of a text answer
    that is already accepted: generation goes on right after it. `draft_tokens` are guessed at
    each step from what was said before: text that repeats itself then comes faster, and no token is another.
    `top_logprobs` asks for so many of the likeliest tokens with each.
    """

    prompt: str
    task: Task = "text"
    sampling: SamplingParams = field(default_factory=SamplingParams)
    prefix: str = ""
    draft_tokens: int = 0
    top_logprobs: int = 0

    def __post_init__(self) -> None:
        """Raise ValueError for a value outside its range."""
        if not 0 <= self.draft_tokens <= 64:
            raise ValueError(f"draft_tokens is {self.draft_tokens}; it must be 0 (off) to 64")
        if not 0 <= self.top_logprobs <= 100:
            raise ValueError(f"top_logprobs is {self.top_logprobs}; it must be 0 (off) to 100")


@dataclass(frozen=True, slots=True)
class Token:
    """One generated token and its evidence.

    `text` is what became readable with it, perhaps nothing: a call is atomic, so its JSON comes whole with the last token.
    `logprob` (nats) is of the chosen token at temperature 1 over the full vocabulary; `margin` (nats) is that minus the best
    other token's, negative where a constraint or sampling took a less likely one; `entropy` (nats) is of the full distribution;
    `top` are the likeliest tokens and their logprobs, where the request asked for them.
    """

    id: int
    text: str
    logprob: float
    margin: float
    entropy: float
    finish_reason: FinishReason | None = None
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Completion:
    """A finished generation: its text, every token, and why it ended."""

    text: str
    tokens: tuple[Token, ...]
    finish_reason: FinishReason
