"""E8P, the two-bit lattice codebook of QuIP# (arXiv 2402.04396, section 4), and its residual form for four bits.

2^16 vectors of 8: 256 vectors of positive half-integers (all 227 of norm² ≤ 10 and 29 of norm² 12), 2^7 sign patterns that make the
sum of the entries even, and a shift of all entries by ±1/4. Knows nothing of matrices.
"""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

SIZE = 8
SCALE = 1.03  # root mean square at which a normal source suits the codebook
RESIDUAL_SCALE = 3.6  # what a residual is multiplied by before it is coded again
RESIDUAL_SIZE = 0.95  # root mean square at which a normal source suits the two together
_PADDING = 29
# (entries of 3/2, entries of 5/2) of the vectors of norm² ≤ 10; the other entries are 1/2. Every arrangement of each is there.
_SHAPES = ((0, 0), (1, 0), (2, 0), (3, 0), (4, 0), (0, 1), (1, 1))


def magnitudes() -> Floats:
    """The 256 vectors of positive half-integers, (256, 8); the last 29 have five entries of 3/2."""
    found = []
    for threes, fives in _SHAPES:
        entries = [2.5] * fives + [1.5] * threes + [0.5] * (SIZE - threes - fives)
        found += sorted(set(itertools.permutations(entries)))
    return np.array([*found, *_padding()], np.float32)


def nearest(x: Floats) -> Floats:
    """The codebook's vector nearest to each row of x (count, 8)."""
    candidates = [_nearest_half_integers(x - shift) + shift for shift in (np.float32(0.25), np.float32(-0.25))]
    misses = [np.square(x - candidate).sum(axis=1) for candidate in candidates]
    return np.where((misses[0] <= misses[1])[:, None], *candidates)


def nearest_residual(x: Floats) -> Floats:
    """Four bits: the nearest vector, and the nearest to what it leaves, enlarged."""
    first = nearest(x)
    return np.asarray(first + nearest((x - first) * np.float32(RESIDUAL_SCALE)) / np.float32(RESIDUAL_SCALE), np.float32)


def round_factor(x: Floats) -> Floats:
    """x (rows, length) at four bits, in groups of 8 along each row, with one scale for all (CALDERA's factor quantizer)."""
    rows, length = x.shape
    size = float(np.sqrt(np.mean(np.square(x)))) / RESIDUAL_SIZE
    if size == 0:
        return np.zeros_like(x)
    groups = np.zeros((rows, -(-length // SIZE) * SIZE), np.float32)
    groups[:, :length] = x / np.float32(size)
    return nearest_residual(groups.reshape(-1, SIZE)).reshape(rows, -1)[:, :length] * np.float32(size)


def _nearest_half_integers(y: Floats) -> Floats:
    """Nearest of the codebook before its shift. With magnitudes a, the best signs are those of y, but for their parity: where it is
    wrong, one sign turns, at a cost of 2 |y_i| a_i for the least such product. For all arrangements of one shape, sorting finds the best.
    """
    size = np.abs(y)
    order = np.argsort(-size, axis=1)
    ranked = np.take_along_axis(size, order, axis=1)
    sums = np.concatenate([np.zeros((len(y), 1), np.float32), np.cumsum(ranked, axis=1)], axis=1)
    odd = (y < 0).sum(axis=1) % 2 == 1
    scores = np.stack([_score(sums, ranked, odd, *shape) for shape in _SHAPES])
    best = scores.argmax(axis=0)
    found = np.empty_like(size)
    np.put_along_axis(found, order, _RANKED[best], axis=1)
    turn = np.zeros(y.shape, bool)
    turn[np.arange(len(y)), order[:, -1]] = odd ^ _ODD[best]
    _try_padding(size, odd, found, turn, scores.max(axis=0), _score(sums, ranked, odd, 5, 0))
    return np.where((y < 0) ^ turn, -found, found)


def _score(sums: Floats, ranked: Floats, odd: NDArray[np.bool_], threes: int, fives: int) -> Floats:
    """<y, c> - |c|²/2 of the best arrangement of one shape."""
    score = 0.5 * sums[:, SIZE] + fives * sums[:, fives] + sums[:, threes + fives]
    wrong = odd if threes % 2 == 0 else ~odd
    return np.asarray(score - (1 + threes + 3 * fives) - np.where(wrong, ranked[:, -1], 0), np.float32)


def _try_padding(size: Floats, odd: NDArray[np.bool_], found: Floats, turn: NDArray[np.bool_], best: Floats, bound: Floats) -> None:
    """Put in, in place, a vector of the padding where it is nearer; `bound`: the score if every arrangement of it were there."""
    rows = np.flatnonzero(bound > best)
    products = size[rows, None, :] * _PADDING_VECTORS
    cost = products.min(axis=2)
    scores = products.sum(axis=2) - 6 - np.where(odd[rows, None], 0, 2 * cost)
    at = scores.argmax(axis=1)
    better = scores[np.arange(len(rows)), at] > best[rows]
    rows, at, products = rows[better], at[better], products[better]
    found[rows] = _PADDING_VECTORS[at]
    turn[rows] = False
    turn[rows, products[np.arange(len(rows)), at].argmin(axis=1)] = ~odd[rows]


def _padding() -> list[tuple[float, ...]]:
    """The first 29 arrangements of five entries of 3/2 and three of 1/2 (the choice is free)."""
    return sorted(set(itertools.permutations([1.5] * 5 + [0.5] * 3)))[:_PADDING]


_PADDING_VECTORS = np.array(_padding(), np.float32)
_RANKED = np.array([[2.5] * fives + [1.5] * threes + [0.5] * (SIZE - threes - fives) for threes, fives in _SHAPES], np.float32)
_ODD = np.array([threes % 2 == 1 for threes, _ in _SHAPES])  # number of entries that must be negative, modulo 2
