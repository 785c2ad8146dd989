"""Exactness against rational sums, and the promise under the worst cases that its theorem allows."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leanto.certificates.selective_risk import Vector, binomial_cdf, certify, feasibility, least_pairs, prefix_p_values, upper_bound

ALPHA, DELTA = 0.1, 0.05


def exact_cdf(k: int, n: int, p: Fraction) -> Fraction:
    return sum((math.comb(n, j) * p**j * (1 - p) ** (n - j) for j in range(k + 1)), Fraction(0))


def draw(random: np.random.Generator, n: int, risk_at: Vector) -> tuple[Vector, list[bool]]:
    """Scores uniform on [0, 1]; P(worse | score) is that of its band, the first band being the highest scores."""
    scores = random.random(n)
    band = np.minimum(((1 - scores) * len(risk_at)).astype(int), len(risk_at) - 1)
    return scores, list(map(bool, random.random(n) < risk_at[band]))


def running_risk(threshold: float, risk_at: Vector) -> float:
    """R(threshold) of `draw`."""
    kept = np.clip((1 - threshold) * len(risk_at) - np.arange(len(risk_at)), 0, 1)
    return float(kept @ risk_at / kept.sum())


def broken(risk_at: Vector, n: int, rounds: int, seed: int = 0) -> float:
    """How often the certified threshold does not keep its promise."""
    random = np.random.default_rng(seed)
    found = [certify(*draw(random, n, risk_at), ALPHA, DELTA) for _ in range(rounds)]
    return float(np.mean([one is not None and running_risk(one.threshold, risk_at) > ALPHA for one in found]))


@given(st.integers(1, 60), st.data())
def test_the_binomial_tail_is_that_of_exact_fractions(n: int, data: st.DataObject) -> None:
    k = data.draw(st.integers(0, n))
    p = Fraction(data.draw(st.integers(1, 99)), 100)
    assert binomial_cdf(k, n, float(p)) == pytest.approx(float(exact_cdf(k, n, p)), abs=1e-12)


def test_the_tail_of_many_pairs_is_exact_to_nine_places() -> None:
    assert binomial_cdf(120, 3000, 0.05) == pytest.approx(float(exact_cdf(120, 3000, Fraction(1, 20))), abs=1e-9)


@settings(max_examples=40)
@given(st.lists(st.booleans(), min_size=1, max_size=60), st.integers(1, 60))
def test_every_prefix_has_the_exact_p_value(worse: list[bool], percent: int) -> None:
    p = prefix_p_values(np.array(worse), percent / 100)
    for k in range(1, len(worse) + 1):
        assert p[k - 1] == pytest.approx(float(exact_cdf(sum(worse[:k]), k, Fraction(percent, 100))), abs=1e-10)


def test_p_values_stay_exact_over_a_long_path() -> None:
    worse = np.random.default_rng(0).random(50_000) < 0.02
    p = prefix_p_values(worse, 0.02)
    for k in (1000, 20_000, 50_000):
        assert p[k - 1] == pytest.approx(binomial_cdf(int(worse[:k].sum()), k, 0.02), abs=1e-9)


@given(st.integers(1, 400), st.data(), st.floats(0.001, 0.5))
def test_the_upper_bound_is_where_the_tail_is_delta(n: int, data: st.DataObject, delta: float) -> None:
    losses = data.draw(st.integers(0, n))
    bound = upper_bound(losses, n, delta)
    assert losses / n <= bound <= 1
    if losses < n:
        assert binomial_cdf(losses, n, bound) == pytest.approx(delta, abs=1e-9)


def test_the_upper_bound_of_no_losses_has_a_closed_form() -> None:
    assert upper_bound(0, 59, 0.05) == pytest.approx(1 - 0.05 ** (1 / 59), abs=1e-10)
    assert upper_bound(7, 7, 0.05) == 1.0


def test_the_bound_rises_with_losses_and_falls_with_pairs_and_with_delta() -> None:
    assert upper_bound(3, 100, 0.05) < upper_bound(4, 100, 0.05)
    assert upper_bound(3, 100, 0.05) > upper_bound(3, 101, 0.05)
    assert upper_bound(3, 100, 0.05) > upper_bound(3, 100, 0.1)


@pytest.mark.parametrize(("losses", "n", "delta"), [(-1, 3, 0.1), (4, 3, 0.1), (0, 0, 0.1), (1, 3, 0.0), (1, 3, math.nan)])
def test_an_impossible_count_has_no_bound(losses: int, n: int, delta: float) -> None:
    with pytest.raises(ValueError):
        upper_bound(losses, n, delta)


WORST_CASES = {
    "right at alpha everywhere": np.full(200, ALPHA),
    "never worse, then just enough to reach alpha at one half": np.array([0.0] * 50 + [0.2] * 150),
    "a cliff of certain losses": np.array([0.0] * 90 + [1.0] * 110),
    "best scores worse than the next": np.array([0.4] * 10 + [0.05] * 60 + [0.5] * 130),
    "hopeless": np.full(200, 0.3),
    "rising slowly": np.linspace(0, 0.35, 200),
}


@pytest.mark.parametrize("risk_at", WORST_CASES.values(), ids=WORST_CASES.keys())
def test_the_promise_is_broken_no_more_often_than_delta(risk_at: Vector) -> None:
    rounds = 600
    noise = 3 * math.sqrt(DELTA * (1 - DELTA) / rounds)
    assert broken(risk_at, 600, rounds) <= DELTA + noise


def test_a_risk_that_rises_above_alpha_twice_costs_at_most_delta_each_time() -> None:
    dips = np.array([0.0] * 40 + [0.25] * 45 + [0.0] * 40 + [0.3] * 75)
    rounds = 600
    assert broken(dips, 600, rounds) <= 2 * DELTA


def test_scores_of_few_values_keep_the_promise_too() -> None:
    risk_at = np.array([0.02, 0.06, 0.13, 0.2, 0.4])
    random = np.random.default_rng(1)
    bad = 0
    for _ in range(400):
        scores, worse = draw(random, 600, risk_at)
        one = certify(np.ceil(scores * 5) / 5, worse, ALPHA, DELTA)
        bad += one is not None and float(risk_at[: round((1.2 - one.threshold) * 5)].mean()) > ALPHA
    assert bad / 400 <= DELTA + 3 * math.sqrt(DELTA / 400)


def test_most_of_what_the_exact_threshold_keeps_is_kept() -> None:
    risk_at = np.linspace(0, 0.35, 200)
    best = 2 * ALPHA / 0.35
    random = np.random.default_rng(2)
    found = [certify(*draw(random, 3000, risk_at), ALPHA, DELTA) for _ in range(40)]
    assert np.mean([1 - one.threshold if one else 0.0 for one in found]) > 0.8 * best


def test_a_failed_start_is_mended_by_looking_ahead() -> None:
    """Losses among the best scores stop plain fixed-sequence testing before it has begun."""
    scores = np.linspace(1, 0, 3000)
    worse = np.zeros(3000, bool)
    worse[:12] = True
    found = certify(scores, worse.tolist(), 0.05, DELTA)
    assert found is not None
    assert found.kept == 3000


def test_a_stricter_promise_has_no_lower_threshold() -> None:
    scores, worse = draw(np.random.default_rng(3), 2000, np.linspace(0, 0.35, 200))
    found = [certify(scores, worse, alpha, DELTA) for alpha in (0.04, 0.07, 0.1, 0.15)]
    thresholds = [one.threshold if one else 1.1 for one in found]
    assert thresholds == sorted(thresholds, reverse=True)
    assert all(one is None or one.bound <= one.alpha for one in found)


def test_equal_scores_are_kept_or_left_together() -> None:
    scores = [0.9] * 200 + [0.5] * 200
    found = certify(scores, [False] * 200 + [True, False] * 100, ALPHA, DELTA)
    assert found is not None
    assert (found.threshold, found.kept) == (0.9, 200)


def test_too_few_pairs_certify_nothing() -> None:
    enough = least_pairs(ALPHA, 0.1 * DELTA)
    assert certify([0.5] * 20, [False] * 20, ALPHA, DELTA) is None
    assert certify([0.5] * enough, [False] * enough, ALPHA, DELTA) is not None


BAD = {
    "nan": ([0.1, math.nan], [True, False], 0.1, 0.1),
    "infinite": ([0.1, math.inf], [True, False], 0.1, 0.1),
    "above one": ([0.1, 1.5], [True, False], 0.1, 0.1),
    "below zero": ([-0.1, 0.5], [True, False], 0.1, 0.1),
    "label": ([0.1, 0.5], [2, 0], 0.1, 0.1),
    "lengths": ([0.1, 0.5], [True], 0.1, 0.1),
    "empty": ([], [], 0.1, 0.1),
    "alpha": ([0.1], [True], 1.0, 0.1),
    "delta": ([0.1], [True], 0.1, math.nan),
}


@pytest.mark.parametrize("pairs", BAD.values(), ids=BAD.keys())
def test_pairs_that_are_none_are_refused(pairs: tuple[list[float], list[bool], float, float]) -> None:
    for function in (certify, feasibility):
        with pytest.raises(ValueError):
            function(*pairs)


def test_the_oracle_keeps_what_is_not_worse_and_alpha_of_the_rest() -> None:
    report = feasibility([0.5] * 100, [True] * 84 + [False] * 16, 0.05, 0.05)
    assert report.oracle_share == pytest.approx(0.16 / 0.95)
    assert 1 - report.oracle_share == pytest.approx((0.84 - 0.05) / 0.95)
    assert report.risk_bounds[0] < report.risk == 0.84 < report.risk_bounds[1]
    assert (report.score_share, report.labels_needed) == (0.0, None)


def test_an_edge_that_is_good_enough_may_keep_everything() -> None:
    report = feasibility(np.linspace(0, 1, 200), [False] * 199 + [True], 0.05, 0.05)
    assert (report.oracle_share, report.score_share) == (1.0, 1.0)
    assert report.labels_needed is not None
    assert least_pairs(0.05, 0.05) < report.labels_needed < 200


def test_the_labels_asked_for_are_enough_as_a_rule() -> None:
    risk_at = np.linspace(0, 0.35, 200)
    needed = feasibility(*draw(np.random.default_rng(4), 3000, risk_at), ALPHA, DELTA).labels_needed
    assert needed is not None
    random = np.random.default_rng(5)
    found = [certify(*draw(random, needed, risk_at), ALPHA, DELTA) for _ in range(40)]
    assert np.mean([one is not None for one in found]) > 0.5
