"""Who should answer, judged on logged outcomes of others' models: from the prompt alone, and from what the local model says of its answer.

`python -m benchmarks.routing [--data DATA] [--json] [--quick]`. DATA holds routing/routellm/mmlu_responses (RouteLLM's outcomes of Mixtral
8x7B and GPT-4-1106) and routing/llm_uncertainty_bench (option logits). APGR and CPT by RouteLLM's protocol (thresholds at ten quantiles,
straight lines between); every score is of a prompt that its model was not fitted to, and every choice was made inside the training folds.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.measure import Row, Section, parser, publish
from leanto.confidence import expected_calibration_error, logistic, sigmoid
from leanto.router.design import Design
from leanto.router.training import Outcome, apgr, folds, train

WEAK, STRONG = "mistralai/Mixtral-8x7B-Instruct-v0.1", "gpt-4-1106-preview"
OUTLIERS = ("moral_scenarios", "high_school_mathematics")  # the subjects of the largest and of the smallest gain: how much hangs on them
TASKS = ("cosmosqa", "hellaswag", "mmlu")
FAMILIES = (
    ("Qwen-1_8B", "Qwen-7B", "Qwen-14B", "Qwen-72B"),
    ("Llama-2-7b-hf", "Llama-2-13b-hf", "Llama-2-70b-hf"),
    ("Yi-6B", "Yi-34B"),
)
NAMED = (("Qwen-7B", "Qwen-72B"), ("Yi-6B", "Yi-34B"), ("Llama-2-7b-hf", "Llama-2-70b-hf"))
BINS = 10
Vector = NDArray[np.float64]
Folds = NDArray[np.int64]


def prompt_router(data: Path, *, quick: bool = False) -> list[Row]:
    """Mixtral → GPT-4 on MMLU from the prompt alone: prompts held out, then whole subjects, each beside its baselines."""
    outcomes = mmlu_outcomes(data)
    if quick:
        outcomes = outcomes[::5]
    gain = np.array([outcome.gain for outcome in outcomes])
    design = Design([outcome.prompt for outcome in outcomes])
    anonymous = [Outcome(outcome.prompt, outcome.gain) for outcome in outcomes]
    methods: dict[str, Callable[[Sequence[Outcome], Folds], Vector]] = {
        "random": lambda rows, _: np.random.default_rng(1).random(len(rows)),
        "prompt length": lambda rows, _: np.array([len(row.prompt) for row in rows], np.float64),
        "tf-idf, ridge": lambda rows, fold: _ridge(design, gain, fold, np.inf, 4.0),  # 12, 40 and 100 are no better
        "structure, ridge": lambda rows, fold: _ridge(design, gain, fold, 3000.0, np.inf),
        "leanto.router": _routed,
    }
    rows: list[Row] = []
    subjects = np.array([outcome.group for outcome in outcomes])
    usual = ~np.isin(subjects, OUTLIERS)
    for split, known, fold in (
        ("prompts held out", anonymous, folds(anonymous)),
        ("subjects held out", outcomes, folds(outcomes, 5 if quick else 10)),
    ):
        for name, method in methods.items():
            score = method(known, fold)
            row = {"split": split, "method": name, "prompts": len(gain), **figures(gain, score, 100 if quick else 1000)}
            if split == "subjects held out":
                low, high = interval(gain, score, 100 if quick else 1000, clusters=subjects)
                row |= {"low, subjects redrawn": low, "high, subjects redrawn": high}
            rows.append(row | {"without 2 outliers": curve_area(*curve(gain[usual], score[usual]))})
    return rows


def answer_evidence(data: Path, *, quick: bool = False) -> list[Row]:
    """Small → large of one family: a logistic score of the small one's option probabilities; the target is the large one's answer."""
    replicates = 50 if quick else 300
    logits = {task: dict(np.load(data / "routing" / "llm_uncertainty_bench" / f"{task}_10k.npz")) for task in TASKS}
    rows: list[Row] = []
    for small, large in ((small, large) for family in FAMILIES for i, large in enumerate(family) for small in family[:i]):
        row: Row = {"local": small, "cloud": large}
        found = []
        for task in TASKS:
            options = logits[task][small].astype(np.float64)
            agrees = options.argmax(1) == logits[task][large].argmax(1)
            score = 1 - _agreement(options, agrees)
            gain = (~agrees).astype(np.float64)
            row[f"agree {task}"] = float(agrees.mean())
            row[task] = curve_area(*curve(gain, score))
            found.append(
                (gain, score, curve_area(*curve(gain, -probabilities(options).max(1))), expected_calibration_error(1 - score, agrees))
            )
        drawn = np.mean([_redrawn(gain, score, replicates) for gain, score, *_ in found], 0)
        row |= {"apgr": float(np.mean([row[task] for task in TASKS])), "low": _low(drawn), "high": _high(drawn)}
        row |= {f"cpt{part}": float(np.mean([calls(*curve(gain, score), part / 100) for gain, score, *_ in found])) for part in (50, 80)}
        rows.append(
            row
            | {"oracle": float(np.mean([1 - gain.mean() / 2 for gain, *_ in found]))}  # sends just those that differ
            | {"largest probability": float(np.mean([area for *_, area, _ in found])), "ece": float(np.mean([x[3] for x in found]))}
        )
    named = [row for row in rows if (row["local"], row["cloud"]) in NAMED]
    return [*rows, _mean("mean of 7B → 72B, 6B → 34B, 7B → 70B", named), _mean("mean of all ten", rows)]


def _mean(name: str, rows: list[Row]) -> Row:
    """Of several pairs, with the 95 % interval of the mean over them: a pair is what a new one would be drawn from."""
    keys = (*TASKS, "apgr", "oracle", "cpt50", "cpt80", "largest probability", "ece")
    mean = {key: float(np.mean([row[key] for row in rows])) for key in keys}
    random = np.random.default_rng(0)
    drawn = np.array([np.mean([rows[i]["apgr"] for i in random.integers(0, len(rows), len(rows))]) for _ in range(2000)])
    return {"local": name, "cloud": "", **mean, "low, pairs redrawn": _low(drawn), "high, pairs redrawn": _high(drawn)}


def mmlu_outcomes(data: Path) -> list[Outcome]:
    """RouteLLM's outcomes, without the prompts that its own protocol drops; the group is the subject."""
    folder = data / "routing" / "routellm"
    dropped = {json.loads(line)["eval_prompt"] for line in (folder / "mmlu_contaminated_prompts.jsonl").read_text().splitlines()}
    found = []
    for path in sorted((folder / "mmlu_responses").glob("*.csv")):
        with path.open(newline="") as file:
            for row in csv.DictReader(file):
                if row["prompt"] not in dropped:
                    gain = float(row[STRONG] == "True") - float(row[WEAK] == "True")
                    found.append(Outcome(row["prompt"], gain, path.stem.removeprefix("mmlu_")))
    return found


def figures(gain: Vector, score: Vector, replicates: int) -> Row:
    """APGR with its 95 % bootstrap interval, over the exact curve too, and the shares of calls for 50 and 80 % of the gap."""
    low, high = interval(gain, score, replicates)
    share, recovered = curve(gain, score)
    found = {"apgr": curve_area(share, recovered), "low": low, "high": high, "exact": apgr(gain, -score)}
    return found | {"cpt50": calls(share, recovered, 0.5), "cpt80": calls(share, recovered, 0.8)}


def curve(gain: Vector, score: Vector) -> tuple[Vector, Vector]:
    """Share of cloud calls and share of the gap recovered (BINS + 1,), at the quantiles of the score; high scores go to the cloud first."""
    thresholds = np.quantile(score, np.linspace(1, 0, BINS + 1))
    sent = [score >= threshold for threshold in thresholds]
    sent[0] = score > thresholds[0]
    return np.array([chosen.mean() for chosen in sent]), np.array([gain[chosen].sum() for chosen in sent]) / gain.sum()


def curve_area(share: Vector, recovered: Vector) -> float:
    """APGR: the area under the curve."""
    return float(np.trapezoid(recovered, share))


def calls(share: Vector, recovered: Vector, part: float) -> float:
    """CPT: percent of calls to the cloud that recover `part` of the gap."""
    return float(100 * np.interp(part, np.maximum.accumulate(recovered), share))


def interval(gain: Vector, score: Vector, replicates: int, clusters: NDArray[np.str_] | None = None) -> tuple[float, float]:
    """95 % percentile bootstrap of APGR: prompts redrawn, or whole clusters of them."""
    drawn = _redrawn(gain, score, replicates, clusters)
    return _low(drawn), _high(drawn)


def probabilities(logits: Vector) -> Vector:
    """Softmax over options: (n, options) → (n, options)."""
    raised = np.exp(logits - logits.max(1, keepdims=True))
    return np.asarray(raised / raised.sum(1, keepdims=True))


def evidence(logits: Vector) -> Vector:
    """What (n, 6) option logits say of the answer: max, runners-up, margin, entropy; and, for a model that likes a letter, which one."""
    p = probabilities(logits)
    log_p = np.log(p + 1e-9)
    ranked = np.sort(p, 1)[:, ::-1]
    margin = np.log(ranked[:, 0] + 1e-9) - np.log(ranked[:, 1] + 1e-9)
    doubt = np.log1p(1e-6 - ranked[:, 0])
    shape = [*ranked[:, :3].T, margin, margin.clip(max=3), -(p * log_p).sum(1), doubt]
    return np.column_stack([*shape, log_p.clip(-12), np.eye(logits.shape[1])[logits.argmax(1)]])


def _agreement(logits: Vector, agrees: NDArray[np.bool_]) -> Vector:
    """P(the larger model answers the same) of each row by a logistic regression on the other four fifths."""
    x, fold = evidence(logits), np.random.default_rng(0).permutation(len(agrees)) % 5
    p = np.empty(len(agrees))
    for k in range(5):
        mean, scale = x[fold != k].mean(0), x[fold != k].std(0) + 1e-6
        weights, bias = logistic((x[fold != k] - mean) / scale, agrees[fold != k].astype(np.float64), 3.0)
        p[fold == k] = sigmoid((x[fold == k] - mean) / scale @ weights + bias)
    return p


def _routed(outcomes: Sequence[Outcome], fold: Folds) -> Vector:
    """The gain that a router foresees which was trained on the other folds, as a client would have it."""
    score = np.empty(len(outcomes))
    for k in np.unique(fold):
        router = train([outcome for outcome, i in zip(outcomes, fold, strict=True) if i != k])
        score[fold == k] = [router.gain(outcome.prompt) for outcome, i in zip(outcomes, fold, strict=True) if i == k]
    return score


def _ridge(design: Design, gain: Vector, fold: Folds, structure_penalty: float, term_penalty: float) -> Vector:
    score = np.empty(len(gain))
    for k in np.unique(fold):
        score[fold == k] = design.fit(np.flatnonzero(fold != k), gain, structure_penalty, term_penalty).predict(np.flatnonzero(fold == k))
    return score


def _redrawn(gain: Vector, score: Vector, replicates: int, clusters: NDArray[np.str_] | None = None) -> Vector:
    random = np.random.default_rng(0)
    members = [np.flatnonzero(clusters == name) for name in np.unique(clusters)] if clusters is not None else []
    found = []
    for _ in range(replicates):
        if members:
            chosen = np.concatenate([members[i] for i in random.integers(0, len(members), len(members))])
        else:
            chosen = random.integers(0, len(gain), len(gain))
        found.append(curve_area(*curve(gain[chosen], score[chosen])))
    return np.array(found)


def _low(drawn: Vector) -> float:
    return float(np.quantile(drawn, 0.025))


def _high(drawn: Vector) -> float:
    return float(np.quantile(drawn, 0.975))


def sections(data: Path, quick: bool) -> list[Section]:
    """Both tables."""
    return [("prompt router", lambda: prompt_router(data, quick=quick)), ("answer evidence", lambda: answer_evidence(data, quick=quick))]


if __name__ == "__main__":
    arguments = parser(__doc__, data="routing/").parse_args()
    publish(sections(arguments.data, arguments.quick), as_json=arguments.json)
