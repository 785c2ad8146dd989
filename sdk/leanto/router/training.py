"""Learns a router from logged outcomes: the mean of a ridge regression on structure and words, its penalties chosen out of fold, and of
boosted trees on structure alone.

Folds hold out whole groups (subjects, tasks, customers) where the outcomes name them, so the report says what prompts of a new kind
may expect. Deterministic. Knows nothing of files but the outcomes' JSONL.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leanto.confidence import auroc, expected_calibration_error, logistic, sigmoid
from leanto.errors import ModelError
from leanto.jsonl import read_rows
from leanto.router.design import Design
from leanto.router.model import Router
from leanto.router.trees import boost

Vector = NDArray[np.float64]
Indices = NDArray[np.int64]
Predict = Callable[[Indices], Vector]
FOLDS = 5
FEWEST = 50  # outcomes
PENALTIES = ((30.0, 1.0), (300.0, 12.0), (3000.0, 4.0), (3000.0, 12.0), (3000.0, 40.0))  # of structure, of words
FORM = (
    'one JSON object a line: {"prompt": …, "local_right": true, "cloud_right": false} or {"prompt": …, "gain": −1…1}, and "group" if known'
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What both models made of a prompt: `gain` is the cloud's quality less the local one's, −1…1. `group` is what may be new one day."""

    prompt: str = field(repr=False)
    gain: float
    group: str | None = None

    def __post_init__(self) -> None:
        if not -1 <= self.gain <= 1:
            raise ValueError(f"a gain of {self.gain} is outside −1…1")


def train(outcomes: Sequence[Outcome]) -> Router:
    """A router, with its report. Raises ValueError for too few outcomes or prompts, or a cloud that is never, or always, the better one."""
    gain = np.array([outcome.gain for outcome in outcomes], np.float64)
    worse = int((gain > 0).sum())
    if len(gain) < FEWEST or not 0 < worse < len(gain):
        raise ValueError(f"{len(gain)} outcomes, the cloud better in {worse}: at least {FEWEST} are needed, of both kinds")
    if len({outcome.prompt for outcome in outcomes}) < FOLDS:
        raise ValueError(f"{len(gain)} outcomes of fewer than {FOLDS} different prompts: give more prompts")
    design, fold = Design([outcome.prompt for outcome in outcomes]), folds(outcomes)
    boosted = _out_of_fold(lambda rows: _on_structure(design, gain, rows), fold)
    unseen = {penalties: (boosted + _out_of_fold(partial(_linear, design, gain, penalties), fold)) / 2 for penalties in PENALTIES}
    chosen = min(PENALTIES, key=lambda penalties: float(((unseen[penalties] - gain) ** 2).sum()))
    slope, intercept = _platt(unseen[chosen], gain <= 0)
    linear, trees = design.fit(np.arange(len(gain)), gain, *chosen), boost(design.structure, gain)
    return Router(
        structure_mean=linear.scaling.mean.astype(np.float32),
        structure_scale=linear.scaling.scale.astype(np.float32),
        structure_weight=(linear.structure_weight / 2).astype(np.float32),
        term_idf=linear.scaling.idf.astype(np.float32),
        term_weight=(linear.term_weight / 2).astype(np.float32),
        trees=replace(trees, value=(trees.value / 2).astype(np.float32)),
        bias=linear.bias / 2,
        slope=slope,
        intercept=intercept,
        report=_report(outcomes, gain, unseen[chosen], slope, intercept) | {"penalties": list(chosen)},
    )


def folds(outcomes: Sequence[Outcome], count: int = FOLDS, seed: int = 0) -> Indices:
    """The fold 0…count−1 of each outcome (n,), of even sizes; a group, or where there are none a prompt, is never in two folds."""
    keys = [outcome.group if grouped(outcomes) else outcome.prompt for outcome in outcomes]
    sizes = Counter(keys)
    order = np.random.default_rng(seed).permutation(len(sizes))
    names = list(sizes)
    place, filled = {}, [0] * count
    for name in sorted((names[i] for i in order), key=lambda name: -sizes[name]):
        place[name] = filled.index(min(filled))
        filled[place[name]] += sizes[name]
    return np.array([place[key] for key in keys], np.int64)


def grouped(outcomes: Sequence[Outcome]) -> bool:
    """Whether whole groups can be held out: all outcomes have one, and there are at least FOLDS."""
    groups = {outcome.group for outcome in outcomes}
    return None not in groups and len(groups) >= FOLDS


def apgr(gain: Vector, score: Vector) -> float | None:
    """Average performance gap recovered: 0.5 is chance, 1 a step at no cost; the exact curve, from the lowest score on.

    Share of the whole gain (n,) that the cloud recovers, averaged over all shares of prompts sent to it, those with the lowest score (n,)
    first and equal scores together. None where the cloud is not the better one on the whole.
    """
    if gain.sum() <= 0:
        return None
    order = np.argsort(score, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(score[order])), len(order) - 1)
    recovered = np.concatenate(([0.0], np.cumsum(gain[order])[ends])) / gain.sum()
    share = np.concatenate(([0.0], (ends + 1) / len(order)))
    return float(((recovered[1:] + recovered[:-1]) / 2 * np.diff(share)).sum())


def read_outcomes(path: str | Path) -> list[Outcome]:
    """The outcomes of a JSONL file. Raises ModelError with the line that is none."""
    return read_rows(path, _outcome, form=FORM, error=ModelError)


def _outcome(row: dict[str, Any]) -> Outcome:
    group = row.get("group")
    gain = row["gain"] if "gain" in row else _quality(row["cloud_right"]) - _quality(row["local_right"])
    if isinstance(gain, bool) or not isinstance(row["prompt"], str) or not isinstance(group, str | None):
        raise TypeError
    return Outcome(row["prompt"], gain + 0.0, group)


def _quality(right: Any) -> float:
    if not isinstance(right, bool):
        raise TypeError
    return float(right)


def _linear(design: Design, gain: Vector, penalties: tuple[float, float], rows: Indices) -> Predict:
    return design.fit(rows, gain, *penalties).predict


def _on_structure(design: Design, gain: Vector, rows: Indices) -> Predict:
    trees = boost(design.structure[rows], gain[rows])
    return lambda others: np.array([trees.predict(x) for x in design.structure[others]])


def _out_of_fold(fit: Callable[[Indices], Predict], fold: Indices) -> Vector:
    """What was foreseen of each outcome (n,) by a fit to the other folds."""
    predicted = np.empty(len(fold))
    for k in range(FOLDS):
        held = np.flatnonzero(fold == k)
        predicted[held] = fit(np.flatnonzero(fold != k))(held)
    return predicted


def _platt(predicted: Vector, fine: NDArray[np.bool_]) -> tuple[float, float]:
    """Slope (never above 0) and intercept of the log-odds of "not worse" in the predicted gain (Platt, 1999)."""
    weights, intercept = logistic(predicted[:, None], fine.astype(np.float64), ridge=1e-2)
    return (float(weights[0]), intercept) if weights[0] <= 0 else (0.0, float(np.log(fine.mean() / (1 - fine.mean()))))


def _report(outcomes: Sequence[Outcome], gain: Vector, unseen: Vector, slope: float, intercept: float) -> dict[str, Any]:
    """What prompts that were held out say of the router."""
    p = sigmoid(intercept + slope * unseen)
    return {
        "outcomes": len(outcomes),
        "held_out": "groups" if grouped(outcomes) else "prompts",
        "groups": len({outcome.group for outcome in outcomes} - {None}),
        "mean_gain": float(gain.mean()),
        "not_worse": float((gain <= 0).mean()),
        "apgr": apgr(gain, -unseen),
        "auroc": auroc(p, gain <= 0),
        "ece": expected_calibration_error(p, gain <= 0),
    }
