"""The report on scored answers whose outcome is known: what could be kept local at which quality, and whether the confidence means it.

Knows nothing of models; `leanto calibrate` and `leanto policy replay --pairs` bring the outcomes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from leanto.certificates.selective_risk import Flags, Vector
from leanto.confidence import FOLDS, Evidence, auroc, expected_calibration_error, fit, predict
from leanto.report.chart import Line, Mark, plot
from leanto.report.curves import at_threshold, deferral, reliability
from leanto.report.page import Figure, Report
from leanto.report.scale import Scale


@dataclass(frozen=True, slots=True)
class Outcomes:
    """Scores (n,) of answers, and whether each is right: not worse than the cloud's. Raises ValueError where there are none."""

    score: Vector
    right: Flags

    def __post_init__(self) -> None:
        if len(self.score) != len(self.right) or not len(self.score) or not np.isfinite(self.score).all():
            raise ValueError("a report needs at least one answer, with a finite score and an outcome each")


def held_out(answers: Sequence[tuple[Sequence[Evidence], bool]]) -> Outcomes:
    """Answers (their tokens, whether they are right), each scored by a confidence that was fitted on four fifths of the others."""
    score, right = np.empty(len(answers)), np.array([good for _, good in answers], bool)
    fold = np.arange(len(answers)) % FOLDS
    for k in range(FOLDS):
        model = fit([answer for answer, at in zip(answers, fold, strict=True) if at != k])
        for i in range(k, len(answers), FOLDS):
            score[i] = predict(model, answers[i][0])
    return Outcomes(score, right)


def figures(outcomes: Outcomes, threshold: float | None) -> list[Figure]:
    """The deferral curve and the reliability diagram; `threshold` is the chosen point, where there is one."""
    return [_deferral(outcomes, threshold), _reliability(outcomes)]


def calibration_page(name: str, outcomes: Outcomes, threshold: float) -> Report:
    """What `leanto calibrate` found, on answers that the confidence was not fitted on."""
    score, right = outcomes.score, outcomes.right
    kept, quality = at_threshold(score, right, threshold)
    cards = [
        ("Answers", f"{len(right):,}", f"{right.mean():.1%} right; each scored by a confidence that was not fitted on it"),
        ("Separates", f"{auroc(score, right):.3f}", "AUROC: a right answer scores above a wrong one"),
        ("Means it", f"{expected_calibration_error(score, right):.3f}", "expected calibration error, ten groups of equal size"),
        ("Kept local", f"{kept:.1%}", f"at the threshold {threshold:.3f}, with a quality of {quality:.1%}"),
    ]
    return Report(f"{name}: how sure it may be", "by leanto calibrate", cards, figures(outcomes, threshold))


def _deferral(outcomes: Outcomes, threshold: float | None) -> Figure:
    curve = deferral(outcomes.score, outcomes.right)
    worst = min(y for line in (curve.score, curve.random, curve.oracle) for _, y in line)
    x, y = Scale("share kept local", 0, 1, percent=True), Scale("quality", _floor(worst), 1, percent=True)
    lines = [Line("confidence", curve.score), Line("random", curve.random, dashed=True), Line("oracle", curve.oracle, dashed=True)]
    marks, chosen = [], ""
    if threshold is not None:
        kept, quality = at_threshold(outcomes.score, outcomes.right, threshold)
        marks, chosen = [Mark(kept, quality, tip=f"threshold {threshold:.3f}")], f"chosen: {kept:.0%} local, quality {quality:.1%}"
    drawn = plot("Deferral curve", x, y, lines, marks, chosen)
    about = "Share of all answers that are not worse than the cloud's, by the share that stays local; the surest stay first."
    return Figure("deferral", "Deferral", about, drawn)


def _reliability(outcomes: Outcomes) -> Figure:
    groups = reliability(outcomes.score, outcomes.right)
    error = expected_calibration_error(outcomes.score, outcomes.right)
    low = _floor(min([group.low for group in groups] + [group.confidence for group in groups]))
    x, y = Scale("confidence", low, 1, percent=True), Scale("share that is right", low, 1, percent=True)
    marks = [
        Mark(group.confidence, group.right, group.low, group.high, tip=f"{group.count:,} answers, {group.right:.1%} right")
        for group in groups
    ]
    sizes = sorted({group.count for group in groups})
    count = f"{sizes[0]:,}" if len(sizes) == 1 else f"{sizes[0]:,} to {sizes[-1]:,}"
    each = "one answer" if sizes == [1] else f"{count} answers" + (" each" if len(groups) > 1 else "")
    drawn = plot("Reliability diagram", x, y, [Line("as it should be", [(low, low), (1, 1)], dashed=True)], marks, each)
    about = f"Share of right answers by confidence, with exact 95 % intervals; {len(outcomes.right):,} answers, ECE {error:.3f}."
    return Figure("reliability", "Reliability", about, drawn)


def _floor(value: float) -> float:
    """The next tenth below at which an axis up to 1 has a tick, so that it shows what differs."""
    tenth = max(0, min(9, math.floor(value * 10 - 1e-9)))
    return (tenth - 1 if tenth in (1, 3) else tenth) / 10
