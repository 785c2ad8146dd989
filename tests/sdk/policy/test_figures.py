from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from decisions import LOG, line, threshold
from leanto import Policy
from leanto.policy.figures import Costs, mean_bounds, summed, taken
from leanto.policy.replay import replay


def test_a_leg_that_nobody_took_has_no_price() -> None:
    found = replay(LOG[:2], threshold(0.7)).after
    assert (found.p95_ms, found.usd, found.unpriced) == (None, None, 1)


def test_a_handoff_costs_what_handoffs_cost_others_and_its_cloud_what_they_cost_more() -> None:
    handed = [line("local→cloud", 0.3, total_ms=ms, usd=0.02, bytes_sent=600, energy_j=3.0) for ms in (70.0, 80.0, 200.0)]
    log = [line(), line(confidence=0.6), *handed]
    leant = replay(log, threshold(0.7)).after
    assert (leant.p95_ms, leant.usd, leant.bytes_sent, leant.estimated) == (200.0, pytest.approx(0.08), 2400, 1)
    costs = Costs(log)
    assert (costs.ms("call", "local→cloud"), costs.ms("call", "cloud"), costs.ms("text", "cloud")) == (80.0, 70.0, None)


def test_energy_that_was_not_metered_is_not_nothing() -> None:
    assert replay([line(energy_j=None)], Policy()).after.joules is None


@settings(max_examples=50)
@given(st.floats(0, 1), st.integers(1, 10_000))
def test_the_interval_of_the_risk_holds_the_mean_and_narrows(mean: float, n: int) -> None:
    low, high = mean_bounds(mean, n)
    assert 0 <= low <= mean <= high <= 1
    wider = mean_bounds(mean, max(1, n // 2))
    assert wider[0] <= low + 1e-12
    assert wider[1] >= high - 1e-12


@given(st.integers(0, 10**6), st.integers(1, 400), st.floats(0.5, 1.0), st.floats(0, 1))
def test_the_interval_of_the_risk_holds_answers_that_their_confidence_is_wrong_about(seed: int, n: int, level: float, bias: float) -> None:
    random = np.random.default_rng(seed)
    sure = random.uniform(level, 1, n)
    true_risk = np.clip(1 - sure + np.where(random.random(n) < 0.5, bias, 0), 0, 1)  # half of the answers are worse than they say
    ece = float(np.abs(true_risk - (1 - sure)).mean())  # over all, the kept ones and the others
    log = [line("local" if one >= 0.8 else "local→cloud", float(one), ece=ece) for one in sure]
    kept = sure >= 0.8
    if kept.any():
        figures = summed([Costs(log).case(entry, taken(entry)) for entry in log])
        assert figures.risk_low is not None
        assert figures.risk_high is not None
        assert figures.risk_low <= true_risk[kept].mean() <= figures.risk_high
        assert figures.risk == pytest.approx((1 - sure[kept]).mean())


def test_without_the_calibration_error_the_risk_has_no_interval() -> None:
    figures = replay([line(ece=0.01), line(ece=None)], Policy()).before
    assert (figures.risk_low, figures.risk_high) == (None, None)
    assert figures.risk == pytest.approx(0.1)


def test_the_interval_of_the_risk_covers_the_truth() -> None:
    draws = np.random.default_rng(0).random((2000, 40)) < 0.1
    missed = [not low <= 0.1 <= high for low, high in (mean_bounds(float(mean), 40) for mean in draws.mean(1))]
    assert np.mean(missed) <= 0.05
