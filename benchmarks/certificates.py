"""Certificates and audit on real outcomes: is the promise kept, how much of the possible stays local, how soon is a shift noticed.

`python -m benchmarks.certificates [--data DATA] [--json] [--quick]`. DATA holds routing/llm_uncertainty_bench, option logits of small and
large models on three tasks, and nlu/ for the embedded pair. "Worse": the small model's choice is not the large one's. The score is its
largest probability, as it is.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks import embedded_pair
from benchmarks.measure import Row, Section, clopper_pearson, parser, publish
from leanto.certificates.audit import Audit, observe
from leanto.certificates.selective_risk import Flags, Vector, certify, least_pairs, prefix_p_values

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
ALPHAS = (0.05, 0.1)
DELTA = 0.05
PAIRS = 3000
LEAST, WORTH_IT = 0.1, 0.2  # what the exact threshold keeps, for a pair to be looked at, and to be worth a router
LONGEST = 2000


def sections(data: Path, quick: bool) -> list[Section]:
    """Certificates, the embedded pair, and audits, each for both alphas."""
    splits = 60 if quick else 300
    return [
        ("certificates", lambda: [row for alpha in ALPHAS for row in _certificates(data, alpha, splits)]),
        ("embedded pair", lambda: embedded_pair.measure(data, thirds=max(10, splits // 15), quick=quick)),
        ("audit", lambda: [row for alpha in ALPHAS for row in (*_audits(alpha, splits), *_shifts(data, alpha, splits))]),
    ]


def _certificates(data: Path, alpha: float, splits: int) -> list[Row]:
    """A row for each pair of models, and the means over all that are worth it, for delta and for half of it.

    `broken` is over independent draws from all 10,000, their exact risk known: what the theorem says. `broken_rest` is over
    random splits, judged by the risk measured on the 7,000 others, itself noisy. `plain` is fixed-sequence testing in steps of 1 %.
    """
    rows = []
    for name, scores, worse in _outcomes(data):
        best = _Population(scores, worse).best(alpha)
        if best >= LEAST:
            for delta in (DELTA, DELTA / 2):
                judged = _judge(scores, worse, alpha, delta, splits)
                rows.append({"what": name, "alpha": alpha, "delta": delta, "possible": best, **judged})
    return rows + [_mean(rows, low, delta, splits) for low in (WORTH_IT, LEAST) for delta in (DELTA, DELTA / 2)]


def _mean(rows: list[Row], low: float, delta: float, splits: int) -> Row:
    """Of the pairs that could keep at least `low`; the interval of `kept` is over pairs, that of `broken` over all splits."""
    some = [row for row in rows if row["delta"] == delta and row["possible"] >= low]
    means = {key: float(np.mean([row[key] for row in some])) for key in ("possible", "kept", "plain", "broken", "broken_rest")}
    kept = np.array([row["kept"] for row in some])
    spread = 1.96 * float(kept.std(ddof=1)) / math.sqrt(len(kept))
    return {
        "what": f"mean of {len(some)} pairs, possible ≥ {low:.0%}",
        "alpha": some[0]["alpha"],
        "delta": delta,
        **means,
        "kept_ci95": [means["kept"] - spread, means["kept"] + spread],
        "broken_ci95": clopper_pearson(round(means["broken"] * splits * len(some)), splits * len(some)),
        "broken_worst": max(row["broken"] for row in some),
    }


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
    kept, plain, broken, broken_rest = [], [], [], []
    for _ in range(splits):
        drawn = random.integers(0, n, PAIRS)
        one = certify(scores[drawn], worse[drawn], alpha, delta)
        many = population.kept(one.threshold) if one else 0
        kept.append(many / n / best)
        plain.append(population.kept(_plain(scores[drawn], worse[drawn], alpha, delta)) / n / best)
        broken.append(many > 0 and population.risk[many - 1] > alpha)
        order = random.permutation(n)
        one = certify(scores[order[:PAIRS]], worse[order[:PAIRS]], alpha, delta)
        rest = order[PAIRS:][scores[order[PAIRS:]] >= one.threshold] if one else order[:0]
        broken_rest.append(len(rest) > 0 and worse[rest].mean() > alpha)
    figures = {"kept": kept, "plain": plain, "broken": broken, "broken_rest": broken_rest}
    return {name: float(np.mean(values)) for name, values in figures.items()}


def _plain(scores: Vector, worse: Flags, alpha: float, delta: float) -> float:
    """The threshold of fixed-sequence testing as it is usually done: Clopper–Pearson at every hundredth, until one fails."""
    order = np.argsort(-scores, kind="stable")
    p, threshold = prefix_p_values(worse[order], alpha), math.inf
    for k in range(3 * least_pairs(alpha, delta), len(p) + 1, len(p) // 100):
        if p[k - 1] > delta:
            break
        threshold = float(scores[order[k - 1]])
    return threshold


def _outcomes(data: Path) -> Iterator[tuple[str, Vector, Flags]]:
    """(small model of task, its largest option probability, whether its choice differs from the large model's)."""
    for task in TASKS:
        with np.load(data / "routing" / "llm_uncertainty_bench" / f"{task}_10k.npz") as logits:
            for small, large in LARGE.items():
                z = logits[small].astype(np.float64)
                p = np.exp(z - z.max(axis=1, keepdims=True))
                yield f"{small} of {task}", p.max(axis=1) / p.sum(axis=1), z.argmax(axis=1) != logits[large].argmax(axis=1)


def _audits(alpha: float, streams: int) -> list[Row]:
    """Alarms at the promised risk, and the answers audited until twice as much is noticed: from the start, or after 200 good ones."""
    row: Row = {"alpha": alpha, "delta": DELTA, "streams": streams}
    false = sum(one <= LONGEST for one in _alarms(alpha, alpha, 0, streams))
    rows = [{"what": "audit, at the promised risk", **row, "alarms": false / streams, "alarms_ci95": clopper_pearson(false, streams)}]
    # Wald (1945): no test that is wrong with at most delta and surely right in the end needs fewer on average
    least = math.log(1 / DELTA) / (2 * alpha * math.log(2) + (1 - 2 * alpha) * math.log((1 - 2 * alpha) / (1 - alpha)))
    for name, quiet in (("twice the risk", 0), ("twice the risk after 200", 200)):
        delays = np.array(_alarms(alpha, 2 * alpha, quiet, streams)) - quiet
        rows.append({"what": f"audit, {name}", **row, "risk": 2 * alpha, **_delays(delays), "least_mean": least})
    return rows


def _shifts(data: Path, alpha: float, streams: int) -> list[Row]:
    """A threshold certified on one task serves another; its kept answers are audited. The last task is the one certified: no shift."""
    outcomes = {name: (scores, worse) for name, scores, worse in _outcomes(data)}
    rows = []
    for small in ("Qwen-7B", "Mistral-7B-v0.1", "Yi-6B"):
        scores, worse = outcomes[f"{small} of cosmosqa"]
        one = certify(scores[:PAIRS], worse[:PAIRS], alpha, DELTA)
        if one is None:
            continue
        for task in ("hellaswag", "mmlu", "cosmosqa"):
            served, wrong = outcomes[f"{small} of {task}"]
            kept = wrong[PAIRS:][served[PAIRS:] >= one.threshold]
            random = np.random.default_rng(0)
            delays = np.array([_first_alarm(alpha, random.choice(kept, LONGEST)) for _ in range(streams)])
            row = {"what": f"audit, {small} certified on cosmosqa serves {task}", "alpha": alpha, "delta": DELTA, "streams": streams}
            rows.append({**row, "risk": float(kept.mean()), **_delays(delays)})
    return rows


def _delays(delays: NDArray[np.int64]) -> Row:
    """Alarms at all, and their median and 90 % quantile in audited answers (None: beyond the longest stream)."""
    draws = np.random.default_rng(1).choice(delays, (1000, len(delays)))
    figures = [float(np.quantile(delays, q)) for q in (0.5, 0.9)]
    interval = [float(value) for value in np.quantile(np.median(draws, axis=1), (0.025, 0.975))]
    never = figures[0] > LONGEST
    return {
        "alarms": float((delays <= LONGEST).mean()),
        "median": None if never else figures[0],
        "median_ci95": None if never else interval,
        "q90": None if figures[1] > LONGEST else figures[1],
        "within_120": float(((delays > 0) & (delays <= 120)).mean()),
    }


def _alarms(alpha: float, risk: float, quiet: int, streams: int) -> list[int]:
    random = np.random.default_rng(0)
    risks = np.where(np.arange(quiet + LONGEST) < quiet, 0.8 * alpha, risk)
    return [_first_alarm(alpha, random.random(len(risks)) < risks) for _ in range(streams)]


def _first_alarm(alpha: float, stream: Flags) -> int:
    """The answers audited until the alarm; one more than there are if it never comes."""
    state = Audit(alpha, DELTA)
    for worse in stream.tolist():
        state = observe(state, worse)
        if state.alarmed:
            return state.audited
    return len(stream) + 1


if __name__ == "__main__":
    arguments = parser(__doc__, data="routing/ and nlu/").parse_args()
    publish(sections(arguments.data, arguments.quick), as_json=arguments.json)
