"""What each matrix adds to the divergence from the teacher, measured: one matrix at a time is disturbed as its rounding would.

The disturbance is the error that LDLQ leaves behind, drawn at random: E = N L⁻¹ for white N and the Hessian L D Lᵀ, of the size that is
expected of a reference code. Whatever else a matrix could be stored as is scaled from there. Rounds nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from leanto_edge.architecture import ModelShape
from leanto_edge.compress.allocation import Candidate, stored_size
from leanto_edge.compress.calibration import Document, batches
from leanto_edge.compress.hessian import LayerWalk
from leanto_edge.compress.incoherence import restore_weight
from leanto_edge.compress.ldlq import unit_lower
from leanto_edge.compress.matrix import predicted_errors
from leanto_edge.compress.plan import CODE_ERROR, Problem
from leanto_edge.compress.report import log_probabilities
from leanto_edge.compress.source import Source
from leanto_edge.layout import EMBEDDING, HEAD, MatrixSpec, shared_inputs

REFERENCE_BITS = 3  # small enough an error for divergences to add up, large enough to be measured on little text
RARE_TOKEN = 0.3  # importance of a token that the calibration text never uses, where the mean token has 1.3
_BATCH_ROWS = 16
_TOKENS = 2048  # that each divergence is measured on


def weigh(
    teacher: Source, documents: Sequence[Document], options: Mapping[str, Sequence[MatrixSpec]], seed: int, step: Callable[[int], None]
) -> dict[str, list[Candidate]]:
    """The candidates of every matrix, by module, for its `options` (the first without low rank); `step` hears of each matrix done."""
    sensitivity = Sensitivity(teacher.model, _few(documents, seed), seed)
    walk = LayerWalk(teacher.model, documents, teacher.shape)
    found: dict[str, list[Candidate]] = {}

    def take(module: str, h: NDArray[np.float64]) -> None:
        found[module] = sensitivity.candidates(module, h, options[module])
        step(1)

    for layer in range(teacher.shape.num_layers):
        hessians = walk.hessians(layer)
        for group in shared_inputs(teacher.shape):
            for name in group:
                take(f"model.layers.{layer}.{name}", hessians[group[0]])
        walk.advance(layer)
    for module, (h, _) in table_problems(teacher.shape, *walk.head(), documents).items():
        take(module, h)
    return found


def table_problems(
    shape: ModelShape, head: NDArray[np.float64], predicted: NDArray[np.float64], documents: Sequence[Document]
) -> dict[str, tuple[NDArray[np.float64], NDArray[np.float32]]]:
    """Hessian and row importance of embedding and head, from the head's Hessian and the mean probability (vocab,) of each token.

    A row counts as often as its token is read, or predicted; of looked-up vectors every direction counts
    the same. A tied matrix serves both.
    """
    head = head * (len(head) / (np.trace(head) or 1.0))
    read = np.bincount(np.concatenate(documents), minlength=len(predicted)) / sum(map(len, documents))
    identity = np.eye(len(head))
    if shape.tie_embeddings:
        return {EMBEDDING: (head + identity, _importance(read + predicted))}
    return {EMBEDDING: (identity, _importance(read)), HEAD: (head, _importance(predicted))}


class Sensitivity:
    """Measures on a few documents how far a teacher moves when one of its matrices is disturbed."""

    def __init__(self, model: Any, documents: Sequence[Document], seed: int) -> None:
        self._model, self._batches = model, list(batches(documents, _BATCH_ROWS))
        self._before = [log_probabilities(model, batch) for batch in self._batches]
        self._random = np.random.default_rng(seed)
        self._plain_size = sum(4 * parameter.numel() for parameter in model.parameters())

    def candidates(self, module: str, h: NDArray[np.float64], options: Sequence[MatrixSpec]) -> list[Candidate]:
        """Every option of one matrix with its size and the divergence expected of it; `h` (n, n): what its rounding will see."""
        parameter = self._model.get_submodule(module).weight
        weight = parameter.detach().numpy()
        errors = _expected_errors(weight, h, options)
        reference = next(i for i, option in enumerate(options) if option.bits == REFERENCE_BITS and option.rank == 0)
        noise = disturbance(weight, h, options[reference], errors[reference], self._random)
        scale = self._divergence(parameter, noise) / (errors[reference] or 1.0)
        return [
            Candidate(spec, stored_size(module, spec, self._plain_size), scale * error) for spec, error in zip(options, errors, strict=True)
        ]

    def _divergence(self, parameter: Any, noise: NDArray[np.float32]) -> float:
        """KL in nats per token from the model as it is to the model with `noise` added to one weight, which is taken back."""
        kept = parameter.detach().clone()
        total, tokens = 0.0, 0
        try:
            parameter += torch.from_numpy(noise)
            for batch, before in zip(self._batches, self._before, strict=True):
                after = log_probabilities(self._model, batch)
                total += float((before.exp() * (before - after)).sum(dtype=torch.float64))
                tokens += len(before)
        finally:
            parameter.copy_(kept)
        return max(total / tokens, 0.0)


def disturbance(
    w: NDArray[np.float32], h: NDArray[np.float64], spec: MatrixSpec, relative: float, random: np.random.Generator
) -> NDArray[np.float32]:
    """A random error (m, n) of w (m, n), shaped as LDLQ under h (n, n) would leave it, with tr(E H Eᵀ) = `relative` · tr(W H Wᵀ)."""
    problem = Problem.rotated(w, h, spec)
    white = random.standard_normal(w.shape, dtype=np.float32)
    error: NDArray[np.float32] = np.linalg.solve(unit_lower(problem.hessian).T, white.T).T.astype(np.float32)
    size = math.sqrt(relative / (problem.relative(error) or 1.0))
    return restore_weight(np.ascontiguousarray(error * np.float32(size)), spec.in_seed, spec.out_seed)


def _expected_errors(w: NDArray[np.float32], h: NDArray[np.float64], specs: Sequence[MatrixSpec]) -> list[float]:
    """Of every candidate: theory at one width of codes for each low-rank term, the others in the proportion of their codes' errors."""
    typical = {(spec.rank, spec.factor_bits): spec for spec in specs if spec.bits == REFERENCE_BITS}
    errors = dict(zip(typical, predicted_errors(w, h, list(typical.values())), strict=True))
    return [
        errors[key] * CODE_ERROR[spec.kind][spec.bits] / CODE_ERROR[typical[key].kind][REFERENCE_BITS]
        for spec in specs
        for key in ((spec.rank, spec.factor_bits),)
    ]


def _importance(use: NDArray[np.float64]) -> NDArray[np.float32]:
    found: NDArray[np.float32] = (use / use.mean() + RARE_TOKEN).astype(np.float32)
    return found


def _few(documents: Sequence[Document], seed: int) -> list[Document]:
    """Documents of about _TOKENS tokens in all, drawn at random."""
    order = np.random.default_rng(seed).permutation(len(documents))
    found: list[Document] = []
    for index in order:
        if sum(map(len, found)) >= _TOKENS:
            break
        found.append(documents[index])
    return found
