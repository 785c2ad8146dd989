"""What a conversation with an engine keeps between its turns: the cache of its newest text. A prompt that begins like it starts from there.

The tokens are the same as without, bit for bit; only their time is not. Nobody else can read or time what one session holds.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from leanto_edge.generation import Completion, GenerationRequest, Token
from leanto_kernels import Cache

if TYPE_CHECKING:
    from leanto_edge.engine import Engine, ModelInfo
    from leanto_edge.tokenizer import Tokenizer


class Memory:
    """At most one cache and the tokens in it. A generation takes it out while it runs: another one beside it starts from nothing."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: tuple[list[int], Cache] | None = None

    def take(self, ids: Sequence[int], fits: Callable[[Cache], bool]) -> Cache | None:
        """The cache, cut to what `ids` begins with, if it `fits`. The last id is never in it: its logits are still to be computed."""
        with self._lock:
            kept, self._kept = self._kept, None
        if kept is None or not fits(kept[1]):
            return None
        held, cache = kept
        same = next((i for i, (a, b) in enumerate(zip(held, ids[:-1], strict=False)) if a != b), min(len(held), len(ids) - 1))
        cache.truncate(same)
        return cache

    def keep(self, ids: list[int], cache: Cache) -> None:
        """Put back a cache that holds the first tokens of `ids`, perhaps with some more that nobody saw."""
        cache.truncate(min(cache.length, len(ids)))
        with self._lock:
            self._kept = (ids[: cache.length], cache)


class Session:
    """A conversation: generates as its engine does, and remembers. Thread-safe; dropping it frees its memory."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._memory = Memory()

    @property
    def info(self) -> ModelInfo:
        """See Engine.info."""
        return self._engine.info

    @property
    def tokenizer(self) -> Tokenizer:
        """See Engine.tokenizer."""
        return self._engine.tokenizer

    def generate(self, request: GenerationRequest) -> Iterator[Token]:
        """See Engine.generate."""
        return self._engine.generate(request, self._memory)

    def read(self, request: GenerationRequest) -> NDArray[np.float32]:
        """See Engine.read; generating from the same prompt then goes on from there."""
        return self._engine.read(request, self._memory)

    def complete(self, request: GenerationRequest) -> Completion:
        """See Engine.complete."""
        return self._engine.complete(request, self._memory)
