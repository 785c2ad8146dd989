"""What each matrix adds to the divergence from the teacher, measured: one matrix at a time is disturbed as its rounding would.

The disturbance is the error that LDLQ leaves behind, drawn at random: E = N L⁻¹ for white N and the Hessian L D Lᵀ, of the sizes that are
expected of codes of 1, 2 and 3 bits. Whatever else a matrix could be stored as lies between or beyond. Rounds nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from leanto_edge.artifact.architecture import ModelShape
from leanto_edge.artifact.layout import EMBEDDING, HEAD, MatrixSpec, shared_inputs
from leanto_edge.compress.allocation import Candidate, stored_size
from leanto_edge.compress.calibration import BATCH_ROWS, Document, batches
from leanto_edge.compress.hessian import LayerWalk
from leanto_edge.compress.incoherence import restore_weight
from leanto_edge.compress.ldlq import damped_lower
from leanto_edge.compress.matrix import predicted_errors
from leanto_edge.compress.plan import Problem
from leanto_edge.compress.report import log_probabilities
from leanto_edge.compress.rounding import CODE_ERROR
from leanto_edge.compress.source import Source
from leanto_edge.compress.student import Student

MEASURED_BITS = (1, 2, 3)  # from there on the divergence grows in proportion to the error
RARE_TOKEN = 0.3  # importance of a token that the calibration text never uses, where the mean token has 1.3
PREDICTED_BITS = 2
_TINY = 1e-12
_TOKENS = 2048  # that each divergence is measured on


def weigh(
    teacher: Source, documents: Sequence[Document], options: Mapping[str, Sequence[MatrixSpec]], seed: int, step: Callable[[int], None]
) -> dict[str, list[Candidate]]:
    """The candidates of every matrix, by module, for its `options` (the first without low rank); `step` hears of each matrix done."""
    sensitivity = Sensitivity(teacher, _few(documents, seed), seed)
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
    """Measures on a few documents how far a model moves from its teacher when one of its matrices is disturbed."""

    def __init__(self, teacher: Source, documents: Sequence[Document], seed: int) -> None:
        self._teacher, self._student = teacher, Student(teacher)
        self._batches = list(batches(documents, BATCH_ROWS))
        self._before = [log_probabilities(teacher.model, batch) for batch in self._batches]
        self._random = np.random.default_rng(seed)
        self._plain_size = sum(4 * parameter.numel() for parameter in teacher.model.parameters())

    def candidates(self, module: str, h: NDArray[np.float64], options: Sequence[MatrixSpec]) -> list[Candidate]:
        """Every option of one matrix with its size and the divergence expected of it; `h` (n, n): what its rounding will see.

        Measured at the errors of the options without low rank and of MEASURED_BITS; between and beyond them by powers of the error.
        """
        weight = self._teacher.weight(module).numpy()
        errors = _expected_errors(weight, h, options)
        noise = disturbance(weight, h, options[0], self._random)
        levels = sorted(error for option, error in zip(options, errors, strict=True) if option.rank == 0 and option.bits in MEASURED_BITS)
        found = [self._divergence(module, weight + _rounding_error(weight, noise, level)) for level in levels]
        expected = _power_law(np.array(levels), np.array(found), np.array(errors))
        sizes = [stored_size(module, option, self._plain_size) for option in options]
        return [Candidate(*each) for each in zip(options, sizes, expected.tolist(), strict=True)]

    def _divergence(self, module: str, weight: NDArray[np.float32]) -> float:
        """KL in nats per token from the teacher to the model with another weight in one place."""
        total, tokens = 0.0, 0
        self._student.hold(module, weight)
        for batch, before in zip(self._batches, self._before, strict=True):
            after = log_probabilities(self._student.model, batch)
            total += float((before.exp() * (before - after)).sum(dtype=torch.float64))
            tokens += len(before)
        self._student.release(module)
        return max(total / tokens, 0.0)


def disturbance(w: NDArray[np.float32], h: NDArray[np.float64], spec: MatrixSpec, random: np.random.Generator) -> NDArray[np.float32]:
    """A random error (m, n) of w (m, n), shaped as LDLQ under h (n, n) would leave it, with tr(E H Eᵀ) = tr(W H Wᵀ)."""
    problem = Problem.rotated(w, h, spec)
    white = random.standard_normal(w.shape, dtype=np.float32)
    lower = damped_lower(problem.hessian, CODE_ERROR[spec.kind][spec.bits])
    error: NDArray[np.float32] = np.linalg.solve(lower.T, white.T).T.astype(np.float32)
    size = np.float32(1 / math.sqrt(problem.relative(error) or 1.0))
    return restore_weight(np.ascontiguousarray(error * size), spec.in_seed, spec.out_seed)


def _rounding_error(w: NDArray[np.float32], noise: NDArray[np.float32], relative: float) -> NDArray[np.float32]:
    """An error of w as large as `relative` of it: what comes out of rounding is smaller than w, and not correlated with its error."""
    share = min(relative, 1.0)
    return np.asarray(math.sqrt(share * (1 - share)) * noise - share * w, np.float32)


def _power_law(levels: NDArray[np.float64], found: NDArray[np.float64], errors: NDArray[np.float64]) -> NDArray[np.float64]:
    """The divergence at each of `errors`, from those `found` at growing `levels`: straight lines between their logarithms.

    Beyond both ends the divergence grows in proportion to the error, as a small one does.
    """
    x, y = np.log(np.maximum(levels, _TINY)), np.log(np.maximum.accumulate(np.maximum(found, _TINY)))
    wanted = np.log(np.maximum(errors, _TINY))
    beyond = np.minimum(wanted - x[0], 0) + np.maximum(wanted - x[-1], 0)
    return np.asarray(np.exp(np.interp(wanted, x, y) + beyond), np.float64)


def _expected_errors(w: NDArray[np.float32], h: NDArray[np.float64], specs: Sequence[MatrixSpec]) -> list[float]:
    """Of every candidate: a low-rank term is looked at with one width of codes, and takes as much from the others."""
    asked = [spec for spec in specs if spec.rank == 0 or spec.bits == PREDICTED_BITS]
    errors = {(spec.bits, spec.rank, spec.factor_bits): error for spec, error in zip(asked, predicted_errors(w, h, asked), strict=True)}
    plain = {bits: error for (bits, rank, _), error in errors.items() if rank == 0}
    found = []
    for spec in specs:
        key = (PREDICTED_BITS, spec.rank, spec.factor_bits)
        found.append(plain[spec.bits] * errors[key] / (plain[PREDICTED_BITS] or 1.0))
    return found


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
