"""The low-rank term L·R of W ≈ Q + L·R: the best approximation of a given rank under the Hessian, in float16.

It is fitted and rounded before Q, which then absorbs the rounding. Knows nothing of codes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Halves = NDArray[np.float16]


def fit_low_rank(w: NDArray[np.float32], h: NDArray[np.float64], rank: int) -> tuple[Halves, Halves]:
    """L (m, rank), R (rank, n) float16 with least tr((W - LR) H (W - LR)ᵀ) for w (m, n), h (n, n) positive definite.

    With H = C Cᵀ the optimum is the truncated SVD of W C, taken back by C⁻¹; the singular values go half to each side.
    """
    if rank == 0:
        return np.zeros((len(w), 0), np.float16), np.zeros((0, w.shape[1]), np.float16)
    root = np.linalg.cholesky(h)
    u, s, vt = np.linalg.svd(w.astype(np.float64) @ root, full_matrices=False)
    size = np.sqrt(s[:rank])
    left = u[:, :rank] * size
    right = np.linalg.solve(root.T, (vt[:rank] * size[:, None]).T).T
    return left.astype(np.float16), right.astype(np.float16)
