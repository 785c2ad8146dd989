"""The low-rank term L·R of W ≈ Q + L·R: row spaces to choose from, and L·R fitted and rounded before Q, which absorbs the rounding.

LDLQ spreads Q's error evenly over the directions of the Hessian, in proportion to |W - LR|². So a good row space takes energy out of
W, or (where L is solved again behind Q) directions out of the Hessian. Knows nothing of codes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from leanto_edge.artifact.layout import MatrixSpec
from leanto_edge.compress.factor_rounding import Factors, round_left, round_right

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]


def fit_low_rank(w: Floats, h: Doubles, rank: int) -> tuple[Doubles, Doubles]:
    """L (m, rank), R (rank, n) with least tr((W - LR) H (W - LR)ᵀ) for w (m, n), h (n, n) positive definite.

    With H = C Cᵀ the optimum is the truncated SVD of W C, taken back by C⁻¹; the singular values go half to each side.
    """
    root = np.linalg.cholesky(h)
    u, s, vt = np.linalg.svd(w.astype(np.float64) @ root, full_matrices=False)
    size = np.sqrt(s[:rank])
    right: Doubles = np.linalg.solve(root.T, (vt[:rank] * size[:, None]).T).T.astype(np.float64)
    return u[:, :rank] * size, right


@dataclass(frozen=True)
class Directions:
    """Input directions of one problem, in rows, the leading ones first; found once, when first asked for, for every rank.

    `weight` (m, n), `hessian` (n, n), and unit vectors `channels` (k, n) of the loudest input channels.
    """

    weight: Floats
    hessian: Doubles
    channels: Floats

    def row_spaces(self, rank: int) -> Mapping[str, Doubles]:
        """Row spaces for R, (rank, n) with orthonormal rows, by name.

        weight: the right singular vectors of W. data: the rows of the best L·R under H. hessian: H's largest eigenvectors. outlier:
        half of the rank for the loudest input channels (as ODLRI does), the rest for what they leave of the weight.
        """
        loud = self.channels[: rank // 2].astype(np.float64)
        rest = self.weight - (self.weight @ loud.T) @ loud
        return {
            "weight": self._of_weight[:rank],
            "data": _orthonormal(self._of_data[:rank]),
            "hessian": self._of_hessian[:rank],
            "outlier": _orthonormal(np.concatenate([loud, leading(rest)[: rank - len(loud)]])),
        }

    @cached_property
    def _of_weight(self) -> Doubles:
        return leading(self.weight)

    @cached_property
    def _of_data(self) -> Doubles:
        root = np.linalg.cholesky(self.hessian)
        return np.asarray(np.linalg.solve(root.T, leading(self.weight @ root).T).T, np.float64)

    @cached_property
    def _of_hessian(self) -> Doubles:
        return np.asarray(np.linalg.eigh(self.hessian)[1][:, ::-1].T, np.float64)


def solve_left(w: Floats, metric: Doubles | None, right: NDArray[np.floating]) -> tuple[Doubles, Doubles]:
    """L (m, r) with least tr((W - LR) M (W - LR)ᵀ) for a fixed R (r, n), and the Gram matrix R M Rᵀ; `metric` None: the identity."""
    wide = np.asarray(right, np.float64)
    met: Doubles = wide if metric is None else np.asarray(wide @ metric, np.float64)
    gram: Doubles = met @ wide.T
    ridge = 1e-10 * np.trace(gram) / len(gram) or 1.0
    left = np.linalg.solve(gram + ridge * np.eye(len(gram)), met @ w.T.astype(np.float64)).T
    return np.asarray(left, np.float64), gram


def round_factors(w: Floats, rows: Doubles, metric: Doubles | None, spec: MatrixSpec) -> Factors:
    """L·R as stored, fitted to w (m, n) in the row space `rows` (r, n): R rounded, L solved for it under `metric`, L rounded."""
    left, _ = solve_left(w, metric, rows)
    right, sizes = balanced(left, rows)
    tensors, stored_right = round_right(right, sizes, spec)
    left, gram = solve_left(w, metric, stored_right)
    more, stored_left = round_left(left, gram, spec)
    return Factors(tensors | more, stored_left, stored_right)


def refit_left(w: Floats, factors: Factors, metric: Doubles, spec: MatrixSpec) -> Factors:
    """`factors` with another L, solved for w (m, n) under `metric` and rounded; R stays."""
    left, gram = solve_left(w, metric, factors.right)
    tensors, stored_left = round_left(left, gram, spec)
    return Factors({**factors.tensors, **tensors}, stored_left, factors.right)


def balanced(left: Doubles, rows: Doubles) -> tuple[Doubles, Doubles]:
    """R (r, n) with the product of left (m, r) and rows (r, n), its rows orthogonal and as long as the columns of L; and their lengths²."""
    basis, triangle = np.linalg.qr(rows.T)
    _, s, vt = np.linalg.svd(np.linalg.qr(left)[1] @ triangle.T)
    return np.sqrt(s)[:, None] * (vt @ basis.T), s


def leading(w: NDArray[np.floating]) -> Doubles:
    """All right singular vectors of w (m, n), in rows (n, n), the leading ones first."""
    wide = w.astype(np.float64)
    return np.asarray(np.linalg.eigh(wide.T @ wide)[1][:, ::-1].T, np.float64)


def _orthonormal(rows: Doubles) -> Doubles:
    return np.linalg.qr(rows.T)[0].T
