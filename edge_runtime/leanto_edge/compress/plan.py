"""What to try for one matrix: which low-rank term, fitted before Q or behind it, with the error that the theory of LDLQ expects.

The error is in proportion to mean(X²) of what is coded, and otherwise a matter of the Hessian. No column is rounded here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from leanto_edge.artifact.layout import MatrixSpec
from leanto_edge.compress.factor_rounding import FACTOR_ERROR, Factors, no_factors
from leanto_edge.compress.incoherence import input_directions, rotate_hessian, rotate_weight
from leanto_edge.compress.ldlq import expected_error
from leanto_edge.compress.lowrank import Directions, round_factors, solve_left
from leanto_edge.compress.rounding import CODE_ERROR

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]

DAMPING = 0.01  # of the Hessian's mean diagonal, added to its diagonal
# Measured error (after two sweeps) over that of the theory, median on matrices of GPT-2 and pocket, and with L solved again behind Q.
EXCESS = {1: 1.28, 2: 1.02, 3: 0.97, 4: 0.94, 8: 1.0}
EXCESS_REFIT = 0.955
LARGEST_WEIGHT = 1e12
LOUDEST = 64  # input channels that a row space may be made for


@dataclass(frozen=True)
class Problem:
    """A weight (m, n) and its Hessian in rotated space, the latter with a mean diagonal of 1 and damped; and their leading directions."""

    weight: Floats
    hessian: Doubles
    directions: Directions
    _expected: dict[float, float] = field(default_factory=dict)

    @classmethod
    def rotated(cls, w: Floats, h: NDArray[np.float64], spec: MatrixSpec) -> Problem:
        """The problem that `spec` poses; ValueError for what no compression could make sense of."""
        check(w, h, spec)
        hessian = rotate_hessian(h, spec.in_seed)
        hessian[np.diag_indices_from(hessian)] += DAMPING
        weight = rotate_weight(w, spec.in_seed, spec.out_seed)
        loudest = np.argsort(-np.diag(h), kind="stable")[:LOUDEST]
        return cls(weight, hessian, Directions(weight, hessian, input_directions(loudest, spec.cols, spec.in_seed)))

    def relative(self, error: Floats) -> float:
        """tr(E H Eᵀ) / tr(W H Wᵀ); a zero matrix counts as 1 below the line."""
        wide = self.hessian.astype(np.float32)
        return _energy(error, wide) / (_energy(self.weight, wide) or 1.0)

    def expected_error(self, code_error: float) -> float:
        """That of leanto_edge.compress.ldlq under its Hessian, worked out once."""
        if code_error not in self._expected:
            self._expected[code_error] = expected_error(self.hessian, code_error)
        return self._expected[code_error]


@dataclass(frozen=True, slots=True)
class Plan:
    """Code W - L·R under `hessian`; then, if `refit`, solve L again for what Q left over. `error` is what the theory expects of it."""

    factors: Factors
    hessian: Doubles
    refit: bool
    error: float


def best_plans(problem: Problem, spec: MatrixSpec) -> list[Plan]:
    """The most promising plan of each order."""
    plans = list(_plans(problem, spec))
    orders = ([plan for plan in plans if plan.refit is refit] for refit in (False, True))
    return [min(order, key=lambda plan: plan.error) for order in orders if order]


def _plans(problem: Problem, spec: MatrixSpec) -> Iterator[Plan]:
    w, h = problem.weight, problem.hessian
    norm = _energy(w, h.astype(np.float32)) or 1.0
    code_error = CODE_ERROR[spec.kind][spec.bits]

    def expected(residual: Floats, by_hessian: float) -> float:
        energy: float = np.square(residual, dtype=np.float64).sum()
        return float(EXCESS[spec.bits] * energy / w.shape[1] * by_hessian / norm)

    if spec.rank == 0:
        yield Plan(no_factors(spec), h, False, expected(w, problem.expected_error(code_error)))
        return
    for rows in problem.directions.row_spaces(spec.rank).values():
        factors = round_factors(w, rows, None, spec)
        residual = w - factors.product
        yield Plan(factors, h, False, expected(residual, problem.expected_error(code_error)))
        if spec.factor_bits > 4:
            rest = projected(h, factors.right)
            left, gram = solve_left(w, h, factors.right)
            rounding = FACTOR_ERROR[spec.factor_bits] * float(np.sum((left @ gram) * left)) / norm
            yield Plan(factors, rest, True, EXCESS_REFIT * expected(residual, expected_error(rest, code_error)) + rounding)


def projected(h: Doubles, right: Floats) -> Doubles:
    """What is left of h (n, n) once an exact L behind Q takes out the rows of R (r, n): H - H Rᵀ (R H Rᵀ)⁻¹ R H, and some damping."""
    met = right.astype(np.float64) @ h
    gram = met @ right.T.astype(np.float64)
    rest = h - met.T @ np.linalg.solve(gram, met)
    rest = (rest + rest.T) / 2
    rest[np.diag_indices_from(rest)] += DAMPING * np.trace(rest) / len(rest)
    return rest


def check(w: Floats, h: NDArray[np.float64], spec: MatrixSpec) -> None:
    """ValueError unless w (m, n) and h (n, n) fit `spec`, are finite, and h could be a Hessian."""
    if w.shape != (spec.rows, spec.cols) or h.shape != (spec.cols, spec.cols):
        raise ValueError(f"the weight is {w.shape} and the Hessian {h.shape}, the spec wants {spec.rows}x{spec.cols}")
    if not np.isfinite(w).all():
        raise ValueError("the weight has values that are not finite; the model is broken")
    if np.abs(w).max() > LARGEST_WEIGHT:
        raise ValueError(f"the weight has values beyond {LARGEST_WEIGHT:g}; the model is broken")
    if not np.isfinite(h).all():
        raise ValueError("the Hessian has values that are not finite; the calibration text or the model is broken")
    largest = float(np.abs(h).max())
    if np.diag(h).min() < 0 or np.abs(h - h.T).max() > 1e-6 * largest:
        raise ValueError("the Hessian is not symmetric with a diagonal of at least 0; measure it as the mean of x xᵀ")


def _energy(e: Floats, h: Floats) -> float:
    """tr(E H Eᵀ)."""
    return float(np.sum((e @ h) * e, dtype=np.float64))
