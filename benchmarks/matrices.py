"""Single matrices: our recipe beside CALDERA, GPTQ and rounding to nearest, by proxy error tr(E H Eᵀ) / tr(W H Wᵀ) at equal true bytes.

`python -m benchmarks.matrices MATRICES.safetensors [--seeds 3] [--quick] [--json]`, twelve attention matrices of GPT-2. Their Hessians
are made up (there is no GPT-2 text here): see `hessian`. CALDERA runs with its published settings and, since those do it harm on
steep spectra, also without downdate and sweeps; ratios are to the better of the two.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

from benchmarks.measure import Row, machine, show
from leanto_edge.compress.baselines.approximation import Approximation
from leanto_edge.compress.baselines.caldera import CalderaSettings, caldera
from leanto_edge.compress.methods import METHODS, best_spec, by_spec, plain_spec

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]

CALDERA_RANK = 16
KINDER = CalderaSettings(sweeps=0, downdate=False)
CHANNELS = 4  # loud ones


def hessian(w: Floats, seed: int) -> Doubles:
    """A Hessian (n, n) like those of transformer inputs for w (m, n), with a mean diagonal of 1.

    Eigenvalues fall like i^-a, a drawn from 1 … 1.5; the eigenvectors lean towards W's right singular vectors (each a sum of one of
    them, weighted 0 … 0.6, and of noise, made orthogonal); four channels then have 10 to 50 times the variance.
    """
    random, n = np.random.default_rng(seed), w.shape[1]
    decay, lean = random.uniform(1, 1.5), random.uniform(0, 0.6)
    singular = np.linalg.svd(w.astype(np.float64))[2].T
    mixed = lean * singular + (1 - lean) * random.standard_normal((n, n)) / np.sqrt(n)
    half = np.linalg.qr(mixed)[0] * np.arange(1, n + 1) ** (-decay / 2)
    half[random.choice(n, CHANNELS, replace=False)] *= np.sqrt(random.uniform(10, 50, CHANNELS))[:, None]
    h = half @ half.T
    return np.asarray(h * n / np.trace(h))


def proxy_error(w: Floats, found: Floats, h: Doubles) -> float:
    """tr(E H Eᵀ) / tr(W H Wᵀ) under the Hessian as it is, without anybody's damping."""
    e = (w - found).astype(np.float64)
    return float(np.sum((e @ h) * e) / np.sum((w @ h) * w))


def compare(name: str, w: Floats, seed: int, quick: bool) -> Iterator[Row]:
    """Rows of one matrix under one Hessian: with the bytes of CALDERA at rank 16, and with those of its codes alone."""
    h = hessian(w, seed)
    rounds = 3 if quick else CalderaSettings().rounds
    m, n = w.shape
    plain = {bits: _timed(w, h, lambda bits=bits: by_spec(w, h, plain_spec(m, n, bits, seed))) for bits in (2, 3)}

    def rank_0_at(bits: float) -> float:
        """Error of rank 0 with any number of bits: geometric between 2 and 3."""
        low, high = plain[2], plain[3]
        share = (bits - low["bits"]) / (high["bits"] - low["bits"])
        return float(low["error"] * (high["error"] / low["error"]) ** share)

    others = {method: _timed(w, h, lambda method=method: METHODS[method](w, h, 2, seed=seed)) for method in ("gptq", "rtn")}
    for rank in (0, CALDERA_RANK):
        published = _timed(w, h, lambda: caldera(w, h, rank, seed, CalderaSettings(rounds=rounds)))  # noqa: B023
        kinder = _timed(w, h, lambda: caldera(w, h, rank, seed, CalderaSettings(rounds, sweeps=0, downdate=False)))  # noqa: B023
        ours, form = (plain[2], "2 bit") if rank == 0 else _best(w, h, published["bits"], seed)
        bits = published["bits"]
        equal = ours["error"] * rank_0_at(bits) / rank_0_at(ours["bits"])  # ours, moved to exactly CALDERA's bytes
        better = min(published["error"], kinder["error"])
        yield {
            "matrix": name,
            "seed": seed,
            "bits": bits,
            "caldera": published["error"],
            "caldera kinder": kinder["error"],
            "leanto": ours["error"],
            "leanto bits": ours["bits"],
            "form": form,
            "rank 0": rank_0_at(bits),
            "ratio": equal / better,
            "ratio published": equal / published["error"],
            "to rank 0": equal / rank_0_at(bits),
            **{method: found["error"] for method, found in others.items()},
            **{f"{method} bits": found["bits"] for method, found in others.items()},
            "caldera s": published["cpu_s"],
            "leanto s": ours["cpu_s"],
        }


def _best(w: Floats, h: Doubles, bits: float, seed: int) -> tuple[Row, str]:
    """The form that prediction chooses within `bits`."""
    start = time.process_time()
    spec = best_spec(w, h, bits, seed)
    choice = time.process_time() - start
    found = _timed(w, h, lambda: by_spec(w, h, spec))
    form = f"{spec.bits} bit" + (f", rank {spec.rank} x{spec.factor_bits}" if spec.rank else "")
    return {**found, "cpu_s": found["cpu_s"] + choice}, form


def _timed(w: Floats, h: Doubles, method: object) -> Row:
    start = time.process_time()
    found = method()  # type: ignore[operator]
    assert isinstance(found, Approximation)
    return {"error": proxy_error(w, found.weight, h), "bits": found.bits_per_weight, "cpu_s": time.process_time() - start}


def summary(rows: list[Row]) -> list[Row]:
    """Median, mean and spread of the ratios, by bits."""
    found = []
    for bits in sorted({row["bits"] for row in rows}):
        for name in ("ratio", "ratio published", "to rank 0"):
            values = [row[name] for row in rows if row["bits"] == bits]
            spread = statistics.stdev(values) if len(values) > 1 else 0.0
            found.append(
                {
                    "bits": bits,
                    "figure": name,
                    "count": len(values),
                    "median": statistics.median(values),
                    "mean": statistics.fmean(values),
                    "stdev": spread,
                    "least": min(values),
                    "largest": max(values),
                }
            )
    return found


def measure(matrices: Mapping[str, Floats], seeds: int, quick: bool) -> Iterator[Row]:
    """All rows, as they are made."""
    for seed in range(seeds):
        for name, w in matrices.items():
            yield from compare(name, w, seed, quick)


def load(path: str | Path, quick: bool = False) -> dict[str, Floats]:
    """The matrices of a safetensors file (only three of them for a quick look)."""
    matrices = load_file(path)
    return {name: matrices[name] for name in list(matrices)[:: 4 if quick else 1]}


def main() -> None:
    """Rows as they come (one JSON object a line with --json), then the summary."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("matrices", help="a safetensors file of weights")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="three matrices, three rounds of CALDERA")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    args = parser.parse_args()
    rows = []
    for row in measure(load(args.matrices, args.quick), args.seeds, args.quick):
        rows.append(row)
        if args.json:
            print(json.dumps(row), flush=True)
    if args.json:
        print(json.dumps({"machine": machine(), "summary": summary(rows)}), flush=True)
    else:
        show("matrices", machine(), rows)
        show("summary", machine(), summary(rows))


if __name__ == "__main__":
    main()
