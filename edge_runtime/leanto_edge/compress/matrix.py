"""One weight matrix through the whole recipe: rotate → low rank → LDLQ with sweeps → scales → the tensors of the artifact, and back.

Knows nothing of models, files and calibration text: a matrix, its Hessian and a MatrixSpec go in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from leanto_edge.artifact.layout import MatrixSpec
from leanto_edge.artifact.tensor_file import Array
from leanto_edge.artifact.weight import dense_weight as decompress_matrix
from leanto_edge.artifact.weight import rotated_weight
from leanto_edge.compress.coding import code_tensors, encode, refine
from leanto_edge.compress.lowrank import refit_left
from leanto_edge.compress.plan import Plan, Problem, best_plans

__all__ = ["CompressedMatrix", "compress_matrix", "decompress_matrix", "predicted_error", "predicted_errors"]

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class CompressedMatrix:
    """A matrix as the artifact stores it. `tensors` by suffix (codes, scales, ...); `error` = tr(E H Eᵀ) / tr(W H Wᵀ).

    `foreign_bytes`: what it takes in the format of another method, whose outcome is stored dense here to be compared.
    """

    spec: MatrixSpec
    tensors: Mapping[str, Array]
    error: float
    foreign_bytes: int | None = None

    @property
    def file_bytes(self) -> int:
        """Bytes of all its tensors."""
        return sum(tensor.nbytes for tensor in self.tensors.values())

    @property
    def stored_bytes(self) -> int:
        """Bytes of all its tensors, or what another method's format takes."""
        return self.file_bytes if self.foreign_bytes is None else self.foreign_bytes


def compress_matrix(
    w: Floats, h: NDArray[np.float64], spec: MatrixSpec, *, sweeps: int, executor: Executor, importance: Floats | None = None
) -> CompressedMatrix:
    """Compress w (m, n) under the Hessian h (n, n) as `spec` says; blocks of 256 rows run in parallel on `executor`.

    `importance` (m,): how much each row's error counts (None: all the same); of use only where rows are not rotated.
    Raises ValueError for sizes that differ from `spec` and for numbers that are not finite.
    """
    problem = Problem.rotated(w, h, spec)
    importance = np.ones(len(w), np.float32) if importance is None else importance
    if importance.shape != (len(w),) or not np.isfinite(importance).all() or importance.min() < 0:
        raise ValueError(f"importance must be {len(w)} numbers of at least 0, one for each row")
    plans = best_plans(problem, spec)
    return min((_carry_out(problem, plan, spec, sweeps, executor, importance) for plan in plans), key=lambda found: found.error)


def predicted_error(w: Floats, h: NDArray[np.float64], spec: MatrixSpec) -> float:
    """The error that `compress_matrix` may be expected to find, by the theory of LDLQ: no column is rounded. ValueError as there."""
    return predicted_errors(w, h, [spec])[0]


def predicted_errors(w: Floats, h: NDArray[np.float64], specs: Sequence[MatrixSpec]) -> list[float]:
    """As predicted_error for several forms of one matrix; what they share is computed once. They must have the same seeds."""
    problem = Problem.rotated(w, h, specs[0])
    return [min(plan.error for plan in best_plans(problem, spec)) for spec in specs]


def _carry_out(problem: Problem, plan: Plan, spec: MatrixSpec, sweeps: int, executor: Executor, importance: Floats) -> CompressedMatrix:
    """Codes, then, where the plan says so, L once more; sweeps always see the whole Hessian and the stored L·R."""
    w, factors = problem.weight, plan.factors
    codes = encode(w - factors.product, plan.hessian, spec, importance, executor)
    rounds = max(sweeps, 1) if plan.refit else 1
    for _ in range(rounds):
        if plan.refit:
            factors = refit_left(w - codes.dense, factors, problem.hessian, spec)
        codes = refine(codes, w - factors.product, problem.hessian, spec, importance, sweeps // rounds, executor)
    tensors = {**code_tensors(codes, spec), **factors.tensors}
    return CompressedMatrix(spec, tensors, problem.relative(w - rotated_weight(spec, tensors)))
