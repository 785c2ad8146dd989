"""Recovery: what is not a code (scales, tables, factors, norms, biases) learns to give back the teacher's distribution.

Distillation on the calibration text, KL(teacher ‖ student) by AdamW. The state kept is the one that does best, rounded as it will be
stored, on documents set aside; if none does better than the start, the start stays. Ends by the clock.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.func import functional_call

from leanto_edge.artifact.tensor_file import Array
from leanto_edge.compress.calibration import Document, batches
from leanto_edge.compress.learnable import LearnableMatrix
from leanto_edge.compress.matrix import CompressedMatrix, decompress_matrix
from leanto_edge.compress.report import log_probabilities
from leanto_edge.compress.source import Source

LEARNING_RATE = 2e-3
_BATCH_TOKENS = 1024
_SET_ASIDE = 8  # one document in so many, and
_MOST_SET_ASIDE_TOKENS = 4096  # at most so many tokens, decide which state is best
_CHECKS = 10
_WARM_UP = 0.05


@dataclass(frozen=True, slots=True)
class Recovered:
    """The matrices and vectors to store, and KL in nats per token on the documents set aside, before and after."""

    matrices: Mapping[str, CompressedMatrix]
    vectors: Mapping[str, Array]
    before: float
    after: float
    steps: int


def recover(
    teacher: Source,
    matrices: Mapping[str, CompressedMatrix],
    documents: Sequence[Document],
    minutes: float,
    seed: int,
    step: Callable[[int], None],
) -> Recovered:
    """Let `matrices` and the teacher's vectors learn for `minutes`; `step` hears the percentage of the time that is over.

    Takes the memory of the whole model in float32, and of its gradients.
    """
    aside, taught = _split(documents, seed)
    learner = _Learner(teacher, matrices)
    best = learner.state()
    before = least = learner.divergence(aside)
    begin, steps, checks = time.monotonic(), 0, 1
    optimizer = torch.optim.AdamW(learner.groups(LEARNING_RATE), weight_decay=0.0, betas=(0.9, 0.99))
    rates = [group["lr"] for group in optimizer.param_groups]
    for batch in _endless(taught, seed):
        share = (time.monotonic() - begin) / (60 * minutes)
        step(min(99, int(100 * share)))
        if share >= min(1.0, checks / _CHECKS):
            checks += 1
            found = learner.divergence(aside)
            if found < least:
                least, best = found, learner.state()
            if share >= 1:
                break
        factor = min(1.0, share / _WARM_UP + 0.01) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(share, 1.0))))
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * factor
        optimizer.zero_grad()
        learner.loss(batch).backward()
        optimizer.step()
        steps += 1
    step(100)
    return Recovered(best[0], best[1], before, least, steps)


State = tuple[dict[str, CompressedMatrix], dict[str, Array]]


class _Learner:
    """The student as a function of what can learn."""

    def __init__(self, teacher: Source, matrices: Mapping[str, CompressedMatrix]) -> None:
        self._teacher, self._student = teacher, copy.deepcopy(teacher.model).float()
        self._matrices = {module: LearnableMatrix(matrix) for module, matrix in matrices.items()}
        self._vectors = {name: torch.from_numpy(vector).requires_grad_() for name, vector in teacher.vectors().items()}

    def groups(self, rate: float) -> list[dict[str, Any]]:
        """What learns and how fast, as torch's optimizers take it."""
        parts = [pair for matrix in self._matrices.values() for pair in matrix.parameters()]
        sizes = [(vector, float(vector.detach().abs().mean()) or 1.0) for vector in self._vectors.values()]
        return [{"params": [part], "lr": rate * size} for part, size in [*parts, *sizes]]

    def loss(self, batch: Sequence[Document]) -> Any:
        """KL in nats per token, differentiable."""
        before = log_probabilities(self._teacher.model, batch)
        weights = {f"{module}.weight": matrix.weight() for module, matrix in self._matrices.items()}
        after = log_probabilities(self._run(weights | self._vectors), batch, learning=True)
        return (before.exp() * (before - after)).sum(-1).mean()

    def divergence(self, documents: Sequence[Document]) -> float:
        """KL in nats per token of the state as it would be stored."""
        self.settle(self.state())
        total = tokens = 0.0
        for batch in batches(documents, 8):
            before, after = (log_probabilities(model, batch) for model in (self._teacher.model, self._student))
            total += float((before.exp() * (before - after)).sum(dtype=torch.float64))
            tokens += len(before)
        return total / tokens

    def state(self) -> State:
        """Everything as it would be stored now."""
        vectors = {name: vector.detach().numpy().copy() for name, vector in self._vectors.items()}
        return {module: matrix.rounded() for module, matrix in self._matrices.items()}, vectors

    def settle(self, state: State) -> None:
        """Give the student the weights of a state."""
        matrices, vectors = state
        parameters = self._student.state_dict()
        for module, matrix in matrices.items():
            parameters[f"{module}.weight"].copy_(torch.from_numpy(decompress_matrix(matrix.spec, matrix.tensors)))
        for name, vector in vectors.items():
            parameters[name].copy_(torch.from_numpy(vector))

    def _run(self, tensors: Mapping[str, Any]) -> Callable[..., Any]:
        return lambda ids, **options: functional_call(self._student, dict(tensors), (ids,), options)


def _split(documents: Sequence[Document], seed: int) -> tuple[list[Document], list[Document]]:
    """Some documents to judge by, and the rest to learn from."""
    order = [int(i) for i in np.random.default_rng(seed).permutation(len(documents))]
    aside: list[int] = []
    for index in order[: max(1, len(order) // _SET_ASIDE)]:
        if sum(len(documents[i]) for i in aside) < _MOST_SET_ASIDE_TOKENS:
            aside.append(index)
    kept = set(aside)
    return [documents[i] for i in aside], [document for i, document in enumerate(documents) if i not in kept] or list(documents)


def _endless(documents: Sequence[Document], seed: int) -> Iterator[list[Document]]:
    """Batches of about _BATCH_TOKENS tokens, in a new order each time around; documents of similar length lie together."""
    random = np.random.default_rng(seed + 1)
    while True:
        ordered = sorted((documents[int(i)] for i in random.permutation(len(documents))), key=lambda document: len(document) // 16)
        found: list[list[Document]] = [[]]
        for document in ordered:
            if found[-1] and (len(found[-1]) + 1) * len(document) > _BATCH_TOKENS:
                found.append([])
            found[-1].append(document)
        for index in random.permutation(len(found)):
            yield found[int(index)]
