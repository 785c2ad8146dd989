from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from leanto.confidence import auroc, expected_calibration_error
from leanto.isotonic import apply_isotonic, fit_isotonic

pairs = st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=60)


@given(pairs, st.lists(st.floats(0, 1), min_size=2, max_size=20))
def test_the_curve_never_falls_and_stays_a_probability(labelled: list[tuple[float, bool]], asked: list[float]) -> None:
    knots = fit_isotonic(np.array([p for p, _ in labelled]), np.array([right for _, right in labelled]))
    found = apply_isotonic(knots, np.sort(asked))
    assert np.all(np.diff(found) >= 0)
    assert np.all((found >= 0) & (found <= 1))


def test_a_score_beside_the_end_is_still_a_probability() -> None:
    knots = fit_isotonic(np.array([2.2250738585e-313]), np.array([False]))
    assert np.all(np.diff(apply_isotonic(knots, np.array([0.0, 5e-324, 1e-300, 1e-9, 1.0]))) >= 0)
    assert apply_isotonic(knots, 5e-324) <= 0.5


def test_an_overconfident_score_comes_to_mean_what_it_says() -> None:
    random = np.random.default_rng(0)
    p = random.random(4000)
    right = random.random(4000) < p**3
    assert expected_calibration_error(p, right) > 0.2
    fitted = apply_isotonic(fit_isotonic(p[:2000], right[:2000]), p[2000:])
    assert expected_calibration_error(fitted, right[2000:]) < 0.05
    assert auroc(fitted, right[2000:]) == pytest.approx(auroc(p[2000:], right[2000:]), abs=1e-3)


def test_answers_in_the_wrong_order_are_pooled() -> None:
    knots = fit_isotonic(np.array([0.2, 0.4, 0.8]), np.array([True, False, True]))
    assert knots["x"] == pytest.approx([0.0, 0.3, 0.8, 1.0])
    assert knots["y"] == pytest.approx([0.0, 0.5, 1 - 1 / 6, 1.0])


def test_scores_that_differ_still_differ_above_the_last_label() -> None:
    knots = fit_isotonic(np.linspace(0, 0.9, 50), np.arange(50) >= 25)
    assert apply_isotonic(knots, 0.99) > apply_isotonic(knots, 0.95)
