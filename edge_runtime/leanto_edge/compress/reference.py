"""The compressor's oracle: each algorithm in a few lines of NumPy, written to be read against its paper, not to be fast.

Tests hold the real modules against it. Everything in float64, scalar rounding, one column at a time.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]


def proxy_error(w: Doubles, found: Doubles, h: Doubles) -> float:
    """tr(E H Eᵀ) / tr(W H Wᵀ), E = W - found."""
    e = w - found
    return float(np.trace(e @ h @ e.T) / np.trace(w @ h @ w.T))


def ldlq(w: Doubles, h: Doubles, round_column: Callable[[Doubles], Doubles]) -> Doubles:
    """LDLQ (QuIP, arXiv 2307.13304) of w (m, n): from the last column, each at its value and the fed-back errors of those behind it."""
    root = np.linalg.cholesky(h)
    lower, error, found = root / np.diag(root), np.zeros_like(w), np.zeros_like(w)
    for j in reversed(range(w.shape[1])):
        found[:, j] = round_column(w[:, j] + error[:, j + 1 :] @ lower[j + 1 :, j])
        error[:, j] = w[:, j] - found[:, j]
    return found


def rounding_order(h: Doubles) -> list[int]:
    """Pivoted Cholesky that takes the variable with the smallest variance given those already taken."""
    order: list[int] = []
    for _ in range(len(h)):
        rest = [j for j in range(len(h)) if j not in order]
        given = h[np.ix_(rest, order)]
        variances = np.diag(h)[rest] - np.diag(given @ np.linalg.solve(h[np.ix_(order, order)], given.T))
        order.append(rest[int(variances.argmin())])
    return order


def low_rank(w: Doubles, h: Doubles, rank: int) -> Doubles:
    """The L·R (m, n) of given rank with the least tr(E H Eᵀ): the truncated SVD of W H^½, times H^-½."""
    values, vectors = np.linalg.eigh(h)
    half, inverse = (vectors * np.sqrt(values)) @ vectors.T, (vectors / np.sqrt(values)) @ vectors.T
    u, s, vt = np.linalg.svd(w @ half, full_matrices=False)
    return np.asarray((u[:, :rank] * s[:rank]) @ vt[:rank] @ inverse)


def error_with_free_left(e: Doubles, h: Doubles, right: Doubles) -> float:
    """The least tr((E - L R) H (E - L R)ᵀ) over all L, by least squares on E H^½."""
    root = np.linalg.cholesky(h)
    left = np.linalg.lstsq((right @ root).T, (e @ root).T, rcond=None)[0].T
    return float(np.square((e - left @ right) @ root).sum())


def e8p(magnitudes: Doubles) -> Doubles:
    """All 65,536 vectors of E8P: every sign pattern with an even sum, shifted by 1/4 and by -1/4."""
    signs = np.array(list(itertools.product((1, -1), repeat=8)))
    signed = (magnitudes[:, None, :] * signs).reshape(-1, 8)
    even = signed[signed.sum(axis=1) % 2 == 0]
    return np.concatenate([even + 0.25, even - 0.25])
