"""Train the default trellis codebooks for a standard normal source and print them as integer tables.

Alternates Viterbi paths with weighted least squares for the 32 table entries, then rounds to int8 by coordinate descent.
NumPy alone; `python kernels/train_codebook.py 2` takes about two minutes. Knows nothing of models.
"""

from __future__ import annotations

import sys

import numpy as np
import numpy.typing as npt

WINDOW = 12
STATES = 1 << WINDOW
Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

_w = np.arange(STATES)
_w8 = _w >> 8
FIRST = (_w & 15) ^ _w8  # index into table A
SECOND = 16 + (((_w >> 4) & 15) ^ ((_w8 << 1) & 15))  # index into table B, after A


def viterbi(x: Floats, values: Floats, bits: int, overlap: Ints | None = None) -> Ints:
    """Return the window of each row, (rows, c), nearest to x (rows, c); `overlap` fixes the bits shared by the two ends."""
    rows, columns = x.shape
    branches, prefixes = 1 << bits, STATES >> bits
    cost = np.square(values[:, None] - x[0])
    if overlap is not None:
        cost[(_w & (prefixes - 1))[:, None] != overlap] = np.inf
    came_from = np.empty((rows, prefixes, columns), np.uint8)
    for t in range(1, rows):
        before = cost.reshape(prefixes, branches, columns)
        came_from[t] = before.argmin(1)
        cost = np.square(values[:, None] - x[t])
        cost.reshape(branches, prefixes, columns)[:] += before.min(1)
    if overlap is not None:
        cost[(_w >> bits)[:, None] != overlap] = np.inf
    path = np.empty((rows, columns), np.int64)
    path[-1] = cost.argmin(0)
    for t in range(rows - 1, 0, -1):
        prefix = path[t] & (prefixes - 1)
        path[t - 1] = (prefix << bits) | came_from[t, prefix, np.arange(columns)]
    return path


def tail_biting(x: Floats, values: Floats, bits: int) -> Ints:
    """As viterbi, cyclic: a first pass from the middle of the block finds the bits that the two ends share."""
    half = len(x) // 2
    path = viterbi(np.roll(x, half, axis=0), values, bits)
    return viterbi(x, values, bits, path[half] & ((STATES >> bits) - 1))


def statistics(x: Floats, path: Ints) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Normal equations (32, 32), (32,) of the table entries for fixed paths."""
    count = np.bincount(path.ravel(), minlength=STATES).astype(float)
    total = np.bincount(path.ravel(), x.ravel(), minlength=STATES)
    design = np.zeros((STATES, 32))
    design[_w, FIRST] = design[_w, SECOND] = 1
    return design.T @ (design * count[:, None]), design.T @ total


def expand(theta: npt.NDArray[np.floating]) -> Floats:
    """Value of every window, (4096,)."""
    return (theta[FIRST] + theta[SECOND]).astype(np.float32)


def train(bits: int, rng: np.random.Generator, restarts: int, iterations: int) -> npt.NDArray[np.float64]:
    """Return the best of several real-valued tables (32,), each refined on fresh samples."""

    def refine(theta: npt.NDArray[np.float64], steps: int, columns: int) -> tuple[float, npt.NDArray[np.float64]]:
        for _ in range(steps):
            x = rng.standard_normal((256, columns), np.float32)
            path = viterbi(x, expand(theta), bits)
            normal, right = statistics(x, path)
            theta = np.asarray(np.linalg.solve(normal + 0.01 * np.eye(32), right), np.float64)
        x = rng.standard_normal((256, 64), np.float32)
        return float(np.square(x - expand(theta)[viterbi(x, expand(theta), bits)]).mean()), theta

    starts = [refine(rng.standard_normal(32) / np.sqrt(2), iterations // 2, 32) for _ in range(restarts)]
    return min((refine(theta, iterations, 128) for _, theta in sorted(starts, key=lambda s: s[0])[:3]), key=lambda s: s[0])[1]


def round_to_int8(theta: npt.NDArray[np.float64], bits: int, rng: np.random.Generator) -> tuple[npt.NDArray[np.int8], float]:
    """Return integer tables (2, 16) with every |A + B| <= 127, and their unit, by coordinate descent on fixed paths."""
    theta = theta - np.repeat([1, -1], 16) * (theta[:16].mean() - theta[16:].mean()) / 2
    reach = max(abs(theta[:16].max() + theta[16:].max()), abs(theta[:16].min() + theta[16:].min()))
    unit = float(reach / 126.4)
    x = rng.standard_normal((256, 512), np.float32)
    tables = np.rint(theta / unit)
    for _ in range(3):
        normal, right = statistics(x, viterbi(x, expand(tables * unit), bits))
        unit = float(tables @ right / (tables @ normal @ tables))
        improved = True
        while improved:
            improved = False
            gradient = unit * (normal @ tables) - right
            for i, step in ((i, s) for i in range(32) for s in (-1, 1)):
                candidate = tables.copy()
                candidate[i] += step
                gain = unit * step * gradient[i] + 0.5 * unit**2 * normal[i, i]
                if gain < -1e-9 and np.abs(candidate[:16, None] + candidate[16:]).max() <= 127:
                    tables, improved = candidate, True
                    gradient = unit * (normal @ tables) - right
    return tables.astype(np.int8).reshape(2, 16), unit


def main() -> None:
    """Train the bit widths named on the command line and print tables, unit and tail-biting mean squared error."""
    for bits in [int(a) for a in sys.argv[1:]] or [1, 2, 3, 4]:
        rng = np.random.default_rng(bits + 10)
        theta = train(bits, rng, restarts=40, iterations=16)
        tables, unit = round_to_int8(theta, bits, rng)
        x = np.random.default_rng(99).standard_normal((256, 512), np.float32)
        errors = [float(np.square(x - v[tail_biting(x, v, bits)]).mean()) for v in (expand(theta), expand(tables.ravel() * unit))]
        print(f"{bits} bits: unit {unit:.8f}, error {errors[1]:.5f} (before rounding {errors[0]:.5f})\n{tables.tolist()}", flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
