"""CALDERA (arXiv 2405.18886) from its mathematics: W ≈ Q + L·R with Q on the E8P lattice at 2 bits and factors of 4 bits.

Outer rounds alternate L·R (LPLR, the residual W - Q) and Q (LDLQ in blocks of 8 columns and coordinate sweeps, the residual W - L·R);
the best of all half-steps is kept. Both sides are rotated first. The settings are those of its published script.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from leanto_edge.compress.baselines.approximation import Approximation
from leanto_edge.compress.baselines.e8p import SCALE, SIZE, nearest, round_factor
from leanto_edge.compress.incoherence import restore_weight, rotate_hessian, rotate_weight, rotation_seed

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class CalderaSettings:
    """`rounds` over L·R and Q, `inner` steps of LPLR, coordinate `sweeps` of Q, `regularization` of the Hessian's mean diagonal;
    `downdate`: Q sees a Hessian without the directions that L·R takes."""

    rounds: int = 20
    inner: int = 10
    sweeps: int = 10
    regularization: float = 1e-2
    downdate: bool = True


def caldera(w: Floats, h: Doubles, rank: int, seed: int = 0, settings: CalderaSettings | None = None) -> Approximation:
    """W (m, n) by CALDERA at 2 bits and `rank` under h (n, n); columns must come in eights."""
    settings = settings or CalderaSettings()
    m, n = w.shape
    if n % SIZE:
        raise ValueError(f"{n} columns cannot be coded in groups of {SIZE}; choose a matrix with a multiple of {SIZE}")
    in_seed, out_seed = rotation_seed(seed, "caldera in", n), rotation_seed(seed, "caldera out", m)
    hessian = rotate_hessian(h, in_seed) + settings.regularization * np.eye(n)
    found = _alternate(rotate_weight(w, in_seed, out_seed), hessian, rank, settings)
    stored_bits = 2.0 * m * n + 32 + (4.0 * rank * (m + n) + 2 * 32 if rank else 0)
    return Approximation(restore_weight(found, in_seed, out_seed), stored_bits)


def _alternate(w: Floats, h: Doubles, rank: int, settings: CalderaSettings) -> Floats:
    """The best Q + L·R of all half-steps."""
    wide, root = h.astype(np.float32), np.linalg.cholesky(h).astype(np.float32)
    q, left, right = np.zeros_like(w), np.zeros((len(w), 0), np.float32), np.zeros((0, w.shape[1]), np.float32)
    best: Floats = q
    least = np.inf
    for _ in range(settings.rounds if rank else 1):
        for step in ("low rank", "codes") if rank else ("codes",):
            if step == "low rank":
                left, right = low_rank(w - q, root, rank, settings.inner)
            else:
                metric = downdated(h, root, right, settings.regularization) if rank and settings.downdate else wide
                product: Floats = left @ right
                q = quantize(w - product, metric, settings.sweeps)
            error = float(np.square((w - q - left @ right) @ root).sum())
            if error < least:
                best, least = np.add(q, left @ right, dtype=np.float32), error
    return best


def low_rank(a: Floats, root: Floats, rank: int, inner: int) -> tuple[Floats, Floats]:
    """LPLR: L (m, r), R (r, n) for a (m, n) with H = C Cᵀ, C = `root`: the truncated SVD of a C, then least squares in turn, rounded."""
    target = a @ root
    _, directions = np.linalg.eigh((target.T @ target).astype(np.float64))
    leading = directions[:, ::-1][:, :rank]  # right singular vectors; singular values stay with R
    sizes = np.linalg.norm(target @ leading, axis=0)
    right = round_factor(np.linalg.solve(root.T, leading * sizes).T.astype(np.float32))
    best, least = (np.zeros((len(a), rank), np.float32), right), np.inf
    for _ in range(inner):
        left = round_factor(np.linalg.lstsq((right @ root).T, target.T, rcond=None)[0]).T
        error = float(np.square(target - left @ (right @ root)).sum())
        if error < least:
            best, least = (left, right), error
        right = round_factor(np.linalg.lstsq(left, a, rcond=None)[0])
        error = float(np.square((a - left @ right) @ root).sum())
        if error < least:
            best, least = (left, right), error
    return best


def downdated(h: Doubles, root: Floats, right: Floats, regularization: float) -> Floats:
    """H - C V Vᵀ Cᵀ with H = C Cᵀ and V an orthonormal basis of the rows of L R C, made positive definite again."""
    part = (root @ np.linalg.qr((right @ root).T)[0]).astype(np.float64)
    rest = h - part @ part.T
    lift = regularization + max(0.0, -float(np.linalg.eigvalsh(rest)[0])) + regularization * float(np.mean(np.diag(rest)))
    return np.asarray(rest + lift * np.eye(len(h)), np.float32)


def quantize(a: Floats, h: Floats, sweeps: int) -> Floats:
    """Q for a (m, n) under h: LDLQ in blocks of 8 columns, last block first, then `sweeps` over the blocks with the others fixed."""
    size = np.float32(np.sqrt(np.mean(np.square(a))) / SCALE) or np.float32(1)
    target: Floats = a / size
    q = np.zeros_like(a)
    lower = block_lower(h)
    error = np.zeros_like(a)
    for start in reversed(range(0, a.shape[1], SIZE)):
        block, after = slice(start, start + SIZE), slice(start + SIZE, None)
        owed = np.asarray(error[:, after] @ lower[after, block], np.float32)
        q[:, block] = nearest(target[:, block] + owed)
        error[:, block] = target[:, block] - q[:, block]
    inverses = [np.linalg.inv(h[at : at + SIZE, at : at + SIZE]) for at in range(0, len(h), SIZE)]
    for _ in range(sweeps):
        for start in reversed(range(0, a.shape[1], SIZE)):
            block = slice(start, start + SIZE)
            owed = np.asarray(error @ (h[:, block] @ inverses[start // SIZE]), np.float32)
            q[:, block] = nearest(q[:, block] + owed)
            error[:, block] = target[:, block] - q[:, block]
    return q * size


def block_lower(h: Floats) -> Floats:
    """L of H = L D Lᵀ with blocks of 8 on D's diagonal and identities on L's."""
    root = np.linalg.cholesky(h.astype(np.float64))
    for start in range(0, len(h), SIZE):
        block = slice(start, start + SIZE)
        root[start:, block] = root[start:, block] @ np.linalg.inv(root[block, block])
    return root.astype(np.float32)
