from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leanto.report.curves import at_threshold, deferral, distribution, reliability, spread

outcomes = st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=80)


@settings(max_examples=100)
@given(outcomes)
def test_every_curve_goes_from_all_in_the_cloud_to_all_local(rows: list[tuple[float, bool]]) -> None:
    score, right = np.array([row[0] for row in rows]), np.array([row[1] for row in rows])
    curve = deferral(score, right)
    for line in (curve.score, curve.random, curve.oracle):
        assert line[0] == (0.0, 1.0)
        assert line[-1] == pytest.approx((1.0, right.mean()))
        assert all(before[0] <= after[0] for before, after in pairwise(line))
    for share, quality in curve.score:
        assert quality <= np.interp(share, *zip(*curve.oracle, strict=True)) + 1e-9


@settings(max_examples=100)
@given(outcomes, st.floats(0, 1))
def test_a_threshold_chooses_a_point_of_the_curve(rows: list[tuple[float, bool]], threshold: float) -> None:
    score, right = np.array([row[0] for row in rows]), np.array([row[1] for row in rows])
    assert any(np.allclose(at_threshold(score, right, threshold), point) for point in deferral(score, right).score)


def test_a_perfect_score_is_the_oracle() -> None:
    right = np.array([True] * 6 + [False] * 4)
    assert deferral(right.astype(float), right).score == [(0.0, 1.0), (0.6, 1.0), (1.0, 0.6)]


def test_the_bins_hold_every_answer_and_their_intervals_the_share() -> None:
    random = np.random.default_rng(0)
    p = random.random(205)
    bins = reliability(p, random.random(205) < p)
    assert sum(one.count for one in bins) == 205
    assert all(one.low <= one.right <= one.high for one in bins)
    assert [one.confidence for one in bins] == sorted(one.confidence for one in bins)


def test_a_distribution_ends_at_all_of_the_values() -> None:
    points = distribution([3.0, 1.0, 2.0])
    assert points == [(1.0, 1 / 3), (2.0, 2 / 3), (3.0, 1.0)]
    assert len(distribution(list(map(float, range(10_000))))) <= 200


def test_a_spread_is_in_order() -> None:
    assert spread([4.0, 1.0, 3.0, 2.0, 5.0]) == pytest.approx((1.4, 2.0, 3.0, 4.0, 4.6))
