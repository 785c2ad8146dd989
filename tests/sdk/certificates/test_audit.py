from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from leanto.certificates.audit import Audit, from_dict, observe

STREAMS = 300


def alarms(alpha: float, risk: float, length: int, seed: int = 0, quiet: int = 0) -> list[int]:
    """For each stream the audited answers until the alarm, or `length` + 1; the first `quiet` have risk 0.8·alpha."""
    random = np.random.default_rng(seed)
    found = []
    for _ in range(STREAMS):
        state, risks = Audit(alpha, 0.05), np.where(np.arange(length) < quiet, 0.8 * alpha, risk)
        for worse in random.random(length) < risks:
            state = observe(state, bool(worse))
            if state.alarmed:
                break
        found.append(state.audited if state.alarmed else length + 1)
    return found


@pytest.mark.parametrize("alpha", [0.05, 0.1])
def test_at_the_promised_risk_false_alarms_are_rare(alpha: float) -> None:
    assert np.mean(np.array(alarms(alpha, alpha, 600)) <= 600) <= 0.05


def test_twice_the_promised_risk_is_found_within_120_answers_as_a_rule() -> None:
    assert np.median(alarms(0.1, 0.2, 600)) <= 120


def test_a_shift_that_comes_late_is_found_too() -> None:
    found = np.array(alarms(0.1, 0.2, 800, quiet=200))
    assert np.median(found) - 200 <= 200
    assert np.mean(found <= 200) <= 0.05


def test_a_risk_below_the_promise_raises_fewer_alarms_than_one_above_it() -> None:
    below, above = (np.mean(np.array(alarms(0.1, risk, 400)) <= 400) for risk in (0.07, 0.15))
    assert below < 0.03 < 0.3 < above


@given(st.lists(st.booleans(), max_size=80), st.floats(0.01, 0.6))
def test_the_next_money_has_the_mean_of_the_present_at_the_promised_risk(past: list[bool], alpha: float) -> None:
    state = Audit(alpha, 0.05)
    assert state.e_value == 1.0
    for worse in past:
        state = observe(state, worse)
    expected = alpha * observe(state, True).e_value + (1 - alpha) * observe(state, False).e_value
    assert expected == pytest.approx(state.e_value, rel=1e-9)
    assert state.e_value > 0


@given(st.lists(st.booleans(), max_size=60), st.integers(0, 60))
def test_a_restart_anywhere_changes_nothing(answers: list[bool], at: int) -> None:
    straight = restarted = Audit(0.1, 0.05)
    for i, worse in enumerate(answers):
        straight = observe(straight, worse)
        if i == at:
            restarted = from_dict(json.loads(json.dumps(restarted.to_dict())))
        restarted = observe(restarted, worse)
    assert restarted == straight


def test_an_alarm_stays() -> None:
    state = Audit(0.1, 0.05)
    for worse in [True] * 10 + [False] * 500:
        state = observe(state, worse)
    assert state.alarmed
    assert state.e_value < 20


def test_endless_losses_do_not_overflow() -> None:
    state = Audit(0.01, 0.05)
    for _ in range(3000):
        state = observe(state, True)
    assert math.isfinite(state.e_value)
    assert from_dict(state.to_dict()) == state


BAD = [
    {"alpha": 0.0},
    {"alpha": math.nan},
    {"delta": 1.0},
    {"audited": -1},
    {"audited": 1, "worse": 2},
    {"audited": 1.5},
    {"staked": math.nan},
    {"staked": -1.0},
    {"staked": math.inf},
    {"staked": 10**400},
    {"audited": 10**400},
    {"alarmed": 1},
    {"more": 1},
]


@pytest.mark.parametrize("change", BAD, ids=str)
def test_a_damaged_state_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        from_dict({"alpha": 0.1, "delta": 0.05, **change})


def test_only_true_and_false_are_observed() -> None:
    for value in (1, 0.5, None, "yes"):
        with pytest.raises(ValueError):
            observe(Audit(0.1, 0.05), value)  # type: ignore[arg-type]
