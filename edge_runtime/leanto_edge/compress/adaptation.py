"""Adaptation: low-rank factors learn from the user's own examples on top of a frozen compressed model, on the CPU.

AdamW on cross-entropy, with KL to the base on text that the base itself wrote, so that it forgets little without the data it was made
from. The state that does best on examples set aside is kept. Ends by the clock, or when nothing improves any more.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import leanto_kernels
from leanto_edge.adapted import even_halves
from leanto_edge.adapter import Halves, largest_ranks, write_adapter
from leanto_edge.artifact import Artifact, read_artifact
from leanto_edge.compress.adaptable import Adaptable, Factors
from leanto_edge.compress.dequantize import dequantized_model
from leanto_edge.compress.examples import Example, read_examples
from leanto_edge.compress.own_text import evened, own_text
from leanto_edge.engine import Engine
from leanto_edge.errors import AdapterError

LEARNING_RATE = 2e-3
KEEPING = 4.0  # how much a nat of divergence on the base's own text counts against a nat of loss on the examples
_BATCH_TOKENS = 512
_SET_ASIDE = 8  # one example in so many, at most _MOST_SET_ASIDE
_MOST_SET_ASIDE = 64
_OWN_TEXT_SHARE = 0.15  # of the time
_OWN_TEXT_TOKENS = 131_072
_CHECKS = 20
_PATIENCE = 8  # checks without an improvement
_WARM_UP = 0.05

Progress = Callable[[str, int, int, float], None]


@dataclass(frozen=True, slots=True)
class Adaptation:
    """What an adaptation did. Losses in nats per answered token on the examples set aside; `divergence` is KL(base ‖ adapted) in nats
    per token on own text set aside."""

    adapter: str
    base: str
    examples: int
    set_aside: int
    new_intents: tuple[str, ...]
    rank: int
    steps: int
    seconds: float
    loss_before: float
    loss_after: float
    divergence: float
    stored_bytes: int

    def as_dict(self) -> dict[str, Any]:
        """All of it as JSON values."""
        return asdict(self)


def adapt(
    model: str | Path,
    out: str | Path,
    *,
    data: str | Path,
    minutes: float,
    rank: int = 8,
    seed: int = 0,
    keeping: float = KEEPING,
    progress: Progress | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Adaptation:
    """Adapt the artifact `model` to the examples in `data` for `minutes` and write the adapter to the file `out`.

    `progress` hears (stage, done, total, seconds left). Raises ArtifactError, UnsupportedModelError, AdapterError, ValueError for options.
    """
    if not (0 < minutes < math.inf):
        raise ValueError(f"minutes is {minutes}; it must be above 0")
    if rank < 1:
        raise ValueError(f"rank is {rank}; it must be at least 1")
    if Path(out).exists():
        raise AdapterError(out, "already exists; remove it or choose another place")
    hear, begin = progress or (lambda *_: None), clock()
    artifact = read_artifact(model)
    engine = Engine(artifact)
    read = read_examples(Path(data), engine, artifact.path)
    timer = _Timer(clock, begin, 60 * minutes, hear)
    own = _own_text(engine, read.examples, seed, timer) if keeping else []
    random = torch.Generator().manual_seed(seed)
    ranks = {module: min(rank, free) for module, free in largest_ranks(artifact).items() if free > 0}
    learner = Adaptable(dequantized_model(model), ranks, random)
    own_aside, own_taught = _split(own, seed)
    run = _train(learner, _split(read.examples, seed), (own_aside, evened(own_taught, engine.call_form)), keeping, seed, timer)
    training = {
        "data_sha256": hashlib.sha256(Path(data).read_bytes()).hexdigest(),
        "minutes": minutes,
        "rank": rank,
        "seed": seed,
        "keeping": keeping,
        "examples": len(read.examples),
        "steps": run.steps,
        "loss_before": run.before,
        "loss_after": run.after,
        "divergence": run.divergence,
    }
    adapter = write_adapter(out, artifact, _stored(artifact, run.factors), training=training, calls=read.calls)
    hear("training", 100, 100, 0.0)
    return Adaptation(
        adapter=adapter.sha256,
        base=adapter.base,
        examples=len(read.examples),
        set_aside=run.set_aside,
        new_intents=tuple(read.calls.tokens),
        rank=rank,
        steps=run.steps,
        seconds=clock() - begin,
        loss_before=run.before,
        loss_after=run.after,
        divergence=run.divergence,
        stored_bytes=adapter.stored_bytes,
    )


@dataclass(frozen=True, slots=True)
class _Run:
    factors: Mapping[str, Factors]
    before: float
    after: float
    divergence: float
    steps: int
    set_aside: int


class _Timer:
    """How much of the time is over, told to whoever listens."""

    def __init__(self, clock: Callable[[], float], begin: float, seconds: float, hear: Progress) -> None:
        self._clock, self._begin, self._seconds, self._hear = clock, begin, seconds, hear

    def share(self) -> float:
        """Of all the time."""
        return (self._clock() - self._begin) / self._seconds

    def tell(self, stage: str, share: float) -> None:
        """Report a stage, from the share of it that is done."""
        self._hear(stage, min(99, int(100 * share)), 100, max(0.0, self._seconds * (1 - self.share())))

    def over(self, stage: str, done: float, limit: float) -> bool:
        """Whether a stage that may last for `limit` of the time must end; `done` of its work is finished."""
        self.tell(stage, done)
        return self.share() >= limit


def _own_text(engine: Engine, examples: Sequence[Example], seed: int, timer: _Timer) -> list[Example]:
    prompts = [example.ids[: example.start] for example in examples]
    return own_text(engine, prompts, seed, _OWN_TEXT_TOKENS, lambda share: timer.over("reading", share, _OWN_TEXT_SHARE))


def _train(
    learner: Adaptable, examples: tuple[list[Example], list[Example]], own: tuple[list[Example], list[Example]], keeping: float, seed: int,
    timer: _Timer,
) -> _Run:  # fmt: skip
    """Learn until the time is over; the cosine schedule follows what is left of it at the start."""
    aside, taught = examples
    before = after = learner.loss_on(aside)
    best, least, divergence = learner.factors(), before, 0.0
    optimizer = torch.optim.AdamW(learner.parameters(), lr=LEARNING_RATE, weight_decay=0.0, betas=(0.9, 0.99))
    batches, kept = _endless(taught, seed), _endless(own[1], seed + 1) if own[1] else None
    start, steps, checks, waited = timer.share(), 0, 1, 0
    while True:
        share = (timer.share() - start) / max(1 - start, 1e-9)
        timer.tell("training", share)
        if share >= min(1.0, checks / _CHECKS) and steps:
            checks = max(checks + 1, math.ceil(share * _CHECKS))
            loss, moved = learner.loss_on(aside), learner.divergence_on(own[0])
            waited += 1
            if loss + keeping * moved < least:
                best, least, after, divergence, waited = learner.factors(), loss + keeping * moved, loss, moved, 0
            if share >= 1 or waited >= _PATIENCE:
                return _Run(best, before, after, divergence, steps, len(aside))
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * _rate(share)
        optimizer.zero_grad()
        learner.loss(next(batches)).backward()
        if kept is not None:
            (keeping * learner.divergence(next(kept))).backward()
        torch.nn.utils.clip_grad_norm_(learner.parameters(), 1.0)
        optimizer.step()
        steps += 1


def _rate(share: float) -> float:
    """Warm-up, then a cosine to 2 per cent."""
    return min(1.0, share / _WARM_UP + 0.01) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(share, 1.0))))


def _split(examples: Sequence[Example], seed: int) -> tuple[list[Example], list[Example]]:
    """Some examples to judge by, and the rest to learn from."""
    order = [int(i) for i in np.random.default_rng(seed).permutation(len(examples))]
    count = min(_MOST_SET_ASIDE, -(-len(order) // _SET_ASIDE))
    return [examples[i] for i in order[:count]], [examples[i] for i in order[count:]]


def _endless(examples: Sequence[Example], seed: int) -> Iterator[list[Example]]:
    """Batches of about _BATCH_TOKENS tokens, in a new order each time around; examples of similar length lie together."""
    random = np.random.default_rng(seed)
    while True:
        ordered = sorted((examples[int(i)] for i in random.permutation(len(examples))), key=lambda example: len(example.ids) // 8)
        found: list[list[Example]] = [[]]
        for example in ordered:
            if found[-1] and (len(found[-1]) + 1) * len(example.ids) > _BATCH_TOKENS:
                found.append([])
            found[-1].append(example)
        for index in random.permutation(len(found)):
            yield found[int(index)]


def _stored(artifact: Artifact, factors: Mapping[str, Factors]) -> dict[str, tuple[Halves, Halves]]:
    """Factors of the plain weights in the basis of each matrix's own, float16."""
    stored = {}
    for module, (left, right) in factors.items():
        entry = artifact.matrices[module]
        stored[module] = even_halves(_rotated(left.T, entry["out_seed"]).T, _rotated(right, entry["in_seed"]))
    return stored


def _rotated(rows: NDArray[np.float32], seed: int) -> NDArray[np.float32]:
    return leanto_kernels.rotate(np.ascontiguousarray(rows), seed) if seed else rows
