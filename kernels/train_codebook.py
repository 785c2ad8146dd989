"""Train the default codebooks for a standard normal source and print them as integer tables.

Trellis and additive: Viterbi paths and weighted least squares for the 32 table entries in turn, then int8 by coordinate descent.
Scalar: Lloyd-Max. NumPy alone; `python kernels/train_codebook.py additive 2` takes about two minutes. Knows nothing of models.
"""

from __future__ import annotations

import math
import sys

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


class Trellis:
    """Windows of one kind at one bit width, and which two of the 32 table entries each adds up."""

    def __init__(self, kind: str, bits: int) -> None:
        self.bits, self.states = bits, 1 << {"trellis": 12, "additive": 8}[kind]
        self.prefixes = self.states >> bits
        self.windows = np.arange(self.states)
        w8 = self.windows >> 8
        self.first = (self.windows & 15) ^ w8
        self.second = 16 + (((self.windows >> 4) & 15) ^ ((w8 << 1) & 15))

    def expand(self, theta: npt.NDArray[np.floating]) -> Floats:
        """Value of every window."""
        return (theta[self.first] + theta[self.second]).astype(np.float32)

    def viterbi(self, x: Floats, values: Floats, overlap: Ints | None = None) -> Ints:
        """Return the window of each row, (rows, c), nearest to x (rows, c); `overlap` fixes the bits shared by the two ends."""
        rows, columns = x.shape
        branches, prefixes = 1 << self.bits, self.prefixes
        cost = np.square(values[:, None] - x[0])
        if overlap is not None:
            cost[(self.windows & (prefixes - 1))[:, None] != overlap] = np.inf
        came_from = np.empty((rows, prefixes, columns), np.uint8)
        for t in range(1, rows):
            before = cost.reshape(prefixes, branches, columns)
            came_from[t] = before.argmin(1)
            cost = np.square(values[:, None] - x[t])
            cost.reshape(branches, prefixes, columns)[:] += before.min(1)
        if overlap is not None:
            cost[(self.windows >> self.bits)[:, None] != overlap] = np.inf
        path = np.empty((rows, columns), np.int64)
        path[-1] = cost.argmin(0)
        for t in range(rows - 1, 0, -1):
            prefix = path[t] & (prefixes - 1)
            path[t - 1] = (prefix << self.bits) | came_from[t, prefix, np.arange(columns)]
        return path

    def tail_biting(self, x: Floats, values: Floats) -> Ints:
        """As viterbi, cyclic: a first pass from the middle of the block finds the bits that the two ends share."""
        half = len(x) // 2
        path = self.viterbi(np.roll(x, half, axis=0), values)
        return self.viterbi(x, values, path[half] & (self.prefixes - 1))

    def statistics(self, x: Floats, path: Ints) -> tuple[Doubles, Doubles]:
        """Normal equations (32, 32), (32,) of the table entries for fixed paths."""
        count = np.bincount(path.ravel(), minlength=self.states).astype(float)
        total = np.bincount(path.ravel(), x.ravel(), minlength=self.states)
        design = np.zeros((self.states, 32))
        design[self.windows, self.first] = design[self.windows, self.second] = 1
        return design.T @ (design * count[:, None]), design.T @ total

    def train(self, rng: np.random.Generator, restarts: int, finalists: int, iterations: int) -> Doubles:
        """Return the best of several real-valued tables (32,), each refined on fresh samples, the finalists for longer."""

        def refine(theta: Doubles, steps: int, columns: int) -> tuple[float, Doubles]:
            for _ in range(steps):
                x = rng.standard_normal((256, columns), np.float32)
                normal, right = self.statistics(x, self.viterbi(x, self.expand(theta)))
                theta = np.asarray(np.linalg.solve(normal + 0.01 * np.eye(32), right), np.float64)
            x = rng.standard_normal((256, columns), np.float32)
            values = self.expand(theta)
            return float(np.square(x - values[self.viterbi(x, values)]).mean()), theta

        starts = [refine(rng.standard_normal(32) / np.sqrt(2), 8, 32) for _ in range(restarts)]
        best = sorted(starts, key=lambda s: s[0])[:finalists]
        return min((refine(theta, iterations, 128) for _, theta in best), key=lambda s: s[0])[1]

    def round_to_int8(self, theta: Doubles, rng: np.random.Generator) -> tuple[npt.NDArray[np.int8], float]:
        """Return integer tables (2, 16) with every |A + B| <= 127, and their unit, by coordinate descent on fixed paths."""
        theta = theta - np.repeat([1, -1], 16) * (theta[:16].mean() - theta[16:].mean()) / 2
        reach = max(abs(theta[:16].max() + theta[16:].max()), abs(theta[:16].min() + theta[16:].min()))
        unit = float(reach / 126.4)
        x = rng.standard_normal((256, 512), np.float32)
        tables = np.rint(theta / unit)
        for _ in range(3):
            normal, right = self.statistics(x, self.viterbi(x, self.expand(tables * unit)))
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


def train_trellis(kind: str, bits: int) -> tuple[npt.NDArray[np.int8], float, float]:
    """Tables, unit and tail-biting mean squared error of a trellis."""
    trellis, rng = Trellis(kind, bits), np.random.default_rng(bits + 10)
    effort = (40, 3, 16) if kind == "trellis" else (300, 20, 40)  # short windows are cheap and have more local optima
    tables, unit = trellis.round_to_int8(trellis.train(rng, *effort), rng)
    x = np.random.default_rng(99).standard_normal((256, 512), np.float32)
    values = trellis.expand(tables.ravel() * unit)
    return tables, unit, float(np.square(x - values[trellis.tail_biting(x, values)]).mean())


def normal_error(levels: Doubles) -> tuple[float, Doubles]:
    """Mean squared error of N(0, 1) rounded to the nearest of ascending levels, and the mean of each level's cell."""
    edges = [-math.inf, *((levels[1:] + levels[:-1]) / 2).tolist(), math.inf]
    below = np.array([0.5 * (1 + math.erf(e / math.sqrt(2))) for e in edges])
    density = np.array([math.exp(-e * e / 2) / math.sqrt(2 * math.pi) for e in edges])
    mass, first = below[1:] - below[:-1], density[:-1] - density[1:]  # integrals of 1 and of x over each cell
    return float(1 - 2 * levels @ first + np.square(levels) @ mass), first / mass


def train_scalar(bits: int) -> tuple[npt.NDArray[np.int8], float, float]:
    """Tables, unit and mean squared error: Lloyd-Max levels on the integer grid that fits them best."""
    levels: Doubles = np.linspace(-2, 2, 1 << bits)
    for _ in range(5000):
        levels = normal_error(levels)[1]
    units = [float(levels[-1]) / reach for reach in np.linspace(96, 127.4, 4000).tolist()]
    unit = min(units, key=lambda u: normal_error(np.rint(levels / u) * u)[0])
    tables = np.zeros((2, 16), np.int8)
    tables[0, : len(levels)] = np.rint(levels / unit)
    return tables, unit, normal_error(tables[0, : len(levels)].astype(np.float64) * unit)[0]


def main() -> None:
    """Train the kind (trellis, additive or scalar) and the bit widths named on the command line."""
    kind = sys.argv[1] if len(sys.argv) > 1 else "trellis"
    for bits in [int(a) for a in sys.argv[2:]] or [1, 2, 3, 4]:
        tables, unit, error = train_scalar(bits) if kind == "scalar" else train_trellis(kind, bits)
        print(f"{kind}, {bits} bits: unit {unit:.8f}, error {error:.5f}\n{tables.tolist()}", flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
