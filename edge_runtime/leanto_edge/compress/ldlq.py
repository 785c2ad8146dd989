"""LDLQ: rounds a matrix column by column so that later columns make up for the errors of earlier ones (QuIP, arXiv 2307.13304).

Minimises tr(E H Eᵀ), E = W - Q. With H = L D Lᵀ (L unit lower triangular) that is Σ_j D_j |(E L)_j|², so going from the last column
to the first, column j is rounded at w_j + Σ_{k>j} e_k L_kj. Columns lie in rows here (n, m), contiguous. Knows nothing of codes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from leanto_edge.compress.rounding import Rounder

Floats = NDArray[np.float32]

_DAMPING_SHARE = 0.4  # of a code's error, best at 1 and at 2 bits
_BLOCK = 64  # columns whose feedback is added one by one; the rest is one product per block
_PIVOTS = 16  # columns that `rounding_order` picks before it looks at all of them again


@dataclass(frozen=True, slots=True)
class Rounded:
    """Columns of a block of rows as codes (n, code_bytes) and the integers they stand for (n, m)."""

    codes: NDArray[np.uint8]
    values: NDArray[np.int8]

    def reordered(self, order: NDArray[np.intp]) -> Rounded:
        """Its columns in another order."""
        return Rounded(self.codes[order], self.values[order])


def unit_lower(h: NDArray[np.float64]) -> Floats:
    """L of H = L D Lᵀ for a positive definite h (n, n)."""
    lower = np.linalg.cholesky(h)
    return (lower / np.diag(lower)).astype(np.float32)


def damped_lower(h: NDArray[np.float64], code_error: float) -> Floats:
    """L of `unit_lower` that feeds back less the coarser the code is (`code_error`: mean squared, of a unit variance).

    Errors that are fed back make the targets larger, and so the errors of a code that is relative to them.
    """
    return unit_lower(h + _DAMPING_SHARE * code_error * np.trace(h) / len(h) * np.eye(len(h)))


def expected_error(h: NDArray[np.float64], code_error: float) -> float:
    """tr(E H Eᵀ) for each row of unit variance that `ldlq` rounds under h (n, n) by a code of mean squared error `code_error`.

    Code errors n are white, E = N L⁻¹, and each is in proportion to its target's variance, 1 + Σ_k v_k (L⁻¹)_kj².
    """
    order = rounding_order(h)
    ordered = h[np.ix_(order, order)]
    inverse = np.linalg.inv(damped_lower(ordered, code_error).astype(np.float64))
    squares, variances = np.square(inverse), np.zeros(len(h))
    for j in reversed(range(len(h))):
        variances[j] = code_error * (1 + variances[j + 1 :] @ squares[j + 1 :, j])
    return float(variances @ ((inverse @ ordered) * inverse).sum(axis=1))


def rounding_order(h: NDArray[np.float64]) -> NDArray[np.intp]:
    """Columns in the order of a pivoted Cholesky that always takes the smallest pivot; `ldlq` then begins with the largest of D.

    It evens out D, and so lowers Σ D at the same determinant. Pivots are chosen among the _PIVOTS smallest of each round.
    """
    count = len(h)
    variance, taken = np.diag(h).copy(), np.zeros(count, bool)
    factor, order = np.zeros((count, count), np.float32), np.zeros(count, np.intp)
    for start in range(0, count, _PIVOTS):
        width = min(_PIVOTS, count - start)
        among = np.argsort(np.where(taken, np.inf, variance), kind="stable")[:width]
        panel = h[:, among] - factor[:, :start] @ factor[among, :start].T
        picked = _smallest_pivots(panel[among])
        order[start : start + width] = among[picked]
        taken[among] = True
        lower = np.linalg.cholesky(panel[among][np.ix_(picked, picked)])
        factor[:, start : start + width] = np.linalg.solve(lower, panel[:, picked].T).T
        variance -= np.square(factor[:, start : start + width], dtype=np.float64).sum(axis=1)
    return order


def _smallest_pivots(h: NDArray[np.float64]) -> NDArray[np.intp]:
    """The exact greedy order within a small matrix."""
    rest, order = h.copy(), np.zeros(len(h), np.intp)
    left = np.ones(len(h), bool)
    for step in range(len(h)):
        j = int(np.where(left, np.diag(rest), np.inf).argmin())
        order[step], left[j] = j, False
        rest -= np.outer(rest[:, j], rest[:, j] / rest[j, j])
    return order


def ldlq(columns: Floats, lower: Floats, rounder: Rounder) -> Rounded:
    """Round `columns` (n, m) with feedback through `lower` (n, n) of `unit_lower`."""
    count, rows = columns.shape
    rounded = Rounded(np.zeros((count, rounder.code_bytes), np.uint8), np.zeros((count, rows), np.int8))
    error = np.zeros_like(columns)
    for end in range(count, 0, -_BLOCK):
        start = max(0, end - _BLOCK)
        feedback = lower[end:, start:end].T @ error[end:]
        for j in reversed(range(start, end)):
            target = columns[j] + feedback[j - start] + lower[j + 1 : end, j] @ error[j + 1 : end]
            rounded.codes[j], rounded.values[j] = rounder.round(target)
            error[j] = columns[j] - rounded.values[j] * rounder.scales
    return rounded


def sweep(columns: Floats, h: Floats, rounded: Rounded, rounder: Rounder) -> None:
    """Round every column again, in place, with all others fixed, and keep it where the error got smaller.

    With the others fixed, the error is H_jj |t - q_j|² plus a constant for t = q_j + Σ_k e_k H_kj / H_jj.
    """
    error = columns - rounded.values * rounder.scales
    for start in range(0, len(columns), _BLOCK):
        block = slice(start, start + _BLOCK)
        gradient = h[block] @ error
        for at, j in enumerate(range(start, min(start + _BLOCK, len(columns)))):
            old = rounded.values[j] * rounder.scales
            target = old + gradient[at] / h[j, j]
            codes, values = rounder.round(target)
            new = values * rounder.scales
            if np.square(target - new).sum() < np.square(target - old).sum():
                rounded.codes[j], rounded.values[j] = codes, values
                error[j] -= new - old
                gradient -= np.outer(h[block, j], new - old)


def best_scales(columns: Floats, h: Floats, values: NDArray[np.int8]) -> NDArray[np.float64]:
    """Scale of each row (m,) that minimises its error for fixed integers `values` (n, m): (w H v) / (v H v), not below 0."""
    wide = values.astype(np.float32)
    product = h @ wide
    above: NDArray[np.float64] = (columns * product).sum(axis=0, dtype=np.float64)
    below: NDArray[np.float64] = (wide * product).sum(axis=0, dtype=np.float64)
    scales: NDArray[np.float64] = np.divide(above, below, out=np.zeros_like(above), where=(below > 0) & (above > 0))
    return scales
