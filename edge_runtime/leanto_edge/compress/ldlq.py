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

_BLOCK = 64  # columns whose feedback is added one by one; the rest is one product per block


@dataclass(frozen=True, slots=True)
class Rounded:
    """Columns of a block of rows as codes (n, code_bytes) and the integers they stand for (n, m)."""

    codes: NDArray[np.uint8]
    values: NDArray[np.int8]


def unit_lower(h: NDArray[np.float64]) -> Floats:
    """L of H = L D Lᵀ for a positive definite h (n, n)."""
    lower = np.linalg.cholesky(h)
    return (lower / np.diag(lower)).astype(np.float32)


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
