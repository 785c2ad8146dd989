"""Certificates and audit on real outcomes: is the promise kept, how much of the possible stays local, how soon is a shift noticed.

`python -m benchmarks.certificates --data DATA [--json] [--quick]`. DATA holds routing/llm_uncertainty_bench: option logits of small and
large models on three tasks. "Worse" is that the small model's choice is not the large one's; the score is its largest probability, as it is.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.measure import Row, machine, show
from leanto.audit import Audit, observe
from leanto.selective_risk import Flags, Vector, certify, upper_bound

LARGE = {
    "Qwen-1_8B": "Qwen-72B",
    "Qwen-7B": "Qwen-72B",
    "Qwen-14B": "Qwen-72B",
    "Llama-2-7b-hf": "Llama-2-70b-hf",
    "Llama-2-13b-hf": "Llama-2-70b-hf",
    "Mistral-7B-v0.1": "Llama-2-70b-hf",
    "Yi-6B": "Yi-34B",
}
TASKS = ("cosmosqa", "hellaswag", "mmlu")
DELTA = 0.05
PAIRS = 3000
WORTH_IT = 0.2  # the exact threshold keeps at least so much: below, a bad pair and not a bad method decides
LONGEST = 2000


def measure(data: Path, quick: bool) -> list[Row]:
    """Certificates for each alpha, then audits."""
    splits = 60 if quick else 300
    rows = [row for alpha in (0.05, 0.1) for row in _certificates(data, alpha, splits)]
    return rows + [row for alpha in (0.05, 0.1) for row in _audits(alpha, splits)]


def _certificates(data: Path, alpha: float, splits: int) -> list[Row]:
    """A row for each pair of models, and the means over all that are worth it, for delta and for half of it.

    `broken` is over independent draws of n from all 10,000, whose exact risk is known: what the theorem is about. `broken_rest` is over
    random splits, judged by the risk measured on the 7,000 others, which is noisy itself.
    """
    rows = []
    for name, scores, worse in _outcomes(data):
        best = _Population(scores, worse).best(alpha)
        if best >= 0.1:
            rows += [
                {"what": name, "alpha": alpha, "delta": delta, "possible": best, **_judge(scores, worse, alpha, delta, splits)}
                for delta in (DELTA, DELTA / 2)
            ]
    for low, high in ((WORTH_IT, 1.01), (0.1, WORTH_IT)):
        for delta in (DELTA, DELTA / 2):
            some = [row for row in rows if row["delta"] == delta and low <= row["possible"] < high and "of" in row["what"]]
            if some:
                means = {key: float(np.mean([row[key] for row in some])) for key in ("possible", "kept", "broken", "broken_rest")}
                total = splits * len(some)
                interval = _interval(round(means["broken"] * total), total)
                kept = np.array([row["kept"] for row in some])
                spread = 1.96 * kept.std() / math.sqrt(len(kept))
                rows.append(
                    {
                        "what": f"mean of {len(some)} pairs, possible {'≥' if low == WORTH_IT else '<'} {WORTH_IT:.0%}",
                        "alpha": alpha,
                        "delta": delta,
                        **means,
                        "kept_ci95": [float(kept.mean() - spread), float(kept.mean() + spread)],
                        "broken_ci95": interval,
                        "broken_worst": max(row["broken"] for row in some),
                    }
                )
    return rows


class _Population:
    """All outcomes, from the best score down."""

    def __init__(self, scores: Vector, worse: Flags) -> None:
        order = np.argsort(-scores, kind="stable")
        self.scores = scores[order]
        self.risk = np.cumsum(worse[order]) / np.arange(1, len(order) + 1)

    def kept(self, threshold: float) -> int:
        return int(np.searchsorted(-self.scores, -threshold, side="right"))

    def best(self, alpha: float) -> float:
        """The share that the lowest threshold of risk ≤ alpha keeps."""
        ends = np.append(self.scores[:-1] != self.scores[1:], True)
        good = np.flatnonzero(ends & (self.risk <= alpha))
        return (int(good[-1]) + 1) / len(self.scores) if len(good) else 0.0


def _judge(scores: Vector, worse: Flags, alpha: float, delta: float, splits: int) -> Row:
    """Kept share over the possible one, and how often the promise is broken."""
    population, random, n = _Population(scores, worse), np.random.default_rng(0), len(scores)
    best = population.best(alpha)
    kept, broken, broken_rest = [], [], []
    for _ in range(splits):
        drawn = random.integers(0, n, PAIRS)
        one = certify(scores[drawn].tolist(), worse[drawn].tolist(), alpha, delta)
        many = population.kept(one.threshold) if one else 0
        kept.append(many / n / best)
        broken.append(many > 0 and population.risk[many - 1] > alpha)
        order = random.permutation(n)
        one = certify(scores[order[:PAIRS]].tolist(), worse[order[:PAIRS]].tolist(), alpha, delta)
        rest = order[PAIRS:][scores[order[PAIRS:]] >= one.threshold] if one else order[:0]
        broken_rest.append(len(rest) > 0 and worse[rest].mean() > alpha)
    return {"kept": float(np.mean(kept)), "broken": float(np.mean(broken)), "broken_rest": float(np.mean(broken_rest))}


def _outcomes(data: Path) -> Iterator[tuple[str, Vector, Flags]]:
    """(small model of task, its largest option probability, whether its choice differs from the large model's)."""
    for task in TASKS:
        with np.load(data / "routing" / "llm_uncertainty_bench" / f"{task}_10k.npz") as logits:
            for small, large in LARGE.items():
                z = logits[small].astype(np.float64)
                p = np.exp(z - z.max(axis=1, keepdims=True))
                yield f"{small} of {task}", p.max(axis=1) / p.sum(axis=1), z.argmax(axis=1) != logits[large].argmax(axis=1)


def _audits(alpha: float, streams: int) -> Iterator[Row]:
    """Alarms at the promised risk, and the answers audited until a shift to twice as much is noticed: from the start, or after 200 good ones."""
    for name, quiet, risk in (
        ("at the promised risk", 0, alpha),
        ("twice the risk", 0, 2 * alpha),
        ("twice the risk after 200", 200, 2 * alpha),
    ):
        found = np.array(list(_alarms(alpha, risk, quiet, streams)))
        early, late = found <= quiet, found[found > quiet] - quiet
        row: Row = {"what": f"audit, {name}", "alpha": alpha, "delta": DELTA, "streams": streams}
        if risk == alpha:
            false = int((found <= LONGEST).sum())
            yield {**row, "false_alarms": false / streams, "false_ci95": _interval(false, streams), "answers": LONGEST}
        else:
            bound = math.log(1 / DELTA) / (2 * alpha * math.log(2) + (1 - 2 * alpha) * math.log((1 - 2 * alpha) / (1 - alpha)))
            median, most = (float(np.quantile(late, q)) for q in (0.5, 0.9))
            draws = np.random.default_rng(1).choice(late, (1000, len(late)))
            low, high = np.quantile(np.median(draws, axis=1), (0.025, 0.975))
            yield {
                **row,
                "false_alarms": float(early.mean()),
                "median": median,
                "median_ci95": [float(low), float(high)],
                "q90": most,
                "within_120": float((late <= 120).mean()),
                "least_mean": bound,
            }


def _alarms(alpha: float, risk: float, quiet: int, streams: int) -> Iterator[int]:
    random = np.random.default_rng(0)
    for _ in range(streams):
        state = Audit(alpha, DELTA)
        for worse in random.random(LONGEST) < np.where(np.arange(LONGEST) < quiet, 0.8 * alpha, risk):
            state = observe(state, bool(worse))
            if state.alarmed:
                break
        yield state.audited if state.alarmed else LONGEST + 1


def _interval(count: int, n: int) -> list[float]:
    """95 % Clopper–Pearson."""
    return [1 - upper_bound(n - count, n, 0.025), upper_bound(count, n, 0.025)]


def main() -> None:
    """Print the tables, or one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="the folder that holds routing/")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--quick", action="store_true", help="a fifth of the splits")
    args = parser.parse_args()
    where = machine()
    rows = measure(args.data, args.quick)
    if args.json:
        print(json.dumps({"benchmark": "certificates", "machine": where, "rows": rows}, indent=1))
    else:
        show("certificates", where, [row for row in rows if "possible" in row])
        show("audit", where, [row for row in rows if "possible" not in row])


if __name__ == "__main__":
    main()
