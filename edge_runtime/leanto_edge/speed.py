"""How fast a loaded model is on this machine: prefill and decode in tokens per second. Random tokens, greedy, nothing kept.

Knows nothing of prompts, files or other engines.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from leanto_edge.engine import Engine

ROUNDS = 5


@dataclass(frozen=True, slots=True)
class Speed:
    """Tokens per second, medians. `decode`: one at a time behind `context` tokens; `prefill`: that many at once, with one set of logits."""

    threads: int
    context: int
    prefill: float
    decode: float


def measure_speed(engine: Engine, *, threads: int, context: int = 128, tokens: int = 32) -> Speed:
    """Measure a prompt of `context` tokens and `tokens` more behind it. ValueError if the model's context does not hold them."""
    if min(threads, context, tokens) < 1:
        raise ValueError("threads, context and tokens must be at least 1")
    if context + tokens > engine.shape.context_length:
        raise ValueError(f"{context} + {tokens} tokens do not fit the model's context of {engine.shape.context_length}")
    model, vocabulary = engine.model, engine.shape.vocab_size
    ids = np.random.default_rng(0).integers(0, vocabulary, context, np.int32)
    prefill, decode = [], []
    for _ in range(ROUNDS):
        cache = model.new_cache(context + tokens)
        prefill.append(_seconds(lambda: model.prefill(cache, ids, threads)))  # noqa: B023 (called at once)
        decode.append(_seconds(lambda: [model.step(cache, int(ids[0]), 0.0, 1.0, 0, 0.0, None, threads) for _ in range(tokens)]))  # noqa: B023
    return Speed(threads, context, context / statistics.median(prefill), tokens / statistics.median(decode))


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
