from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import strategies
from fakes import tokens
from leanto import confidence
from leanto.confidence import FEATURES, auroc, choose_threshold, expected_calibration_error, features, fit, mean_probability, predict
from leanto_edge import Token


def answers(n: int = 200, seed: int = 0) -> list[tuple[list[Token], bool]]:
    """Right answers have high logprobs more often than wrong ones do."""
    random = np.random.default_rng(seed)
    rows = []
    for _ in range(n):
        right = bool(random.random() < 0.6)
        scores = -random.gamma(1.0, 0.1 if right else 0.6, size=int(random.integers(2, 12)))
        rows.append((tokens(" ".join("x" * len(scores)), scores.tolist()), right))
    return rows


def test_features_are_those_that_are_named() -> None:
    found = dict(zip(FEATURES, features(tokens("a b c d", [-1.0, -2.0, -4.0, -1.0])), strict=True))
    assert found["log_n"] == math.log(4)
    assert (found["mean_logprob"], found["min_logprob"], found["median_logprob"], found["first_logprob"]) == (-2.0, -4.0, -1.5, -1.0)
    assert (found["max_entropy"], found["min_margin"]) == (4.0, -2.0)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=40), st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0]) | st.floats(0, 1))
def test_a_quantile_is_numpys_to_the_last_bit(values: list[float], q: float) -> None:
    assert confidence.quantile(np.sort(values), q) == np.quantile(values, q)


def test_an_answer_without_tokens_has_no_features() -> None:
    with pytest.raises(ValueError, match="no evidence"):
        features([])


def test_a_fitted_model_separates_right_from_wrong_and_survives_json() -> None:
    rows = answers()
    model = json.loads(json.dumps(fit(rows)))
    assert model["auroc"] > 0.8
    assert model["ece"] < 0.15
    assert model["rows"] == 200
    right = [predict(model, row) for row, good in rows if good]
    wrong = [predict(model, row) for row, good in rows if not good]
    assert np.mean(right) > np.mean(wrong) + 0.2


def test_fitting_twice_gives_the_same_model() -> None:
    assert fit(answers()) == fit(answers())


def test_separable_answers_do_not_blow_up_the_weights() -> None:
    rows = [(tokens("a b", -0.01 if right else -9.0), right) for right in [True, False] * 20]
    model = fit(rows)
    assert np.abs(model["weights"]).max() < 10
    assert model["auroc"] == 1.0


@pytest.mark.parametrize("rows", [answers(10), [(tokens("a b"), True)] * 50, []])
def test_too_few_or_one_sided_answers_are_refused(rows: list[tuple[list[Token], bool]]) -> None:
    with pytest.raises(ValueError, match="calibration needs at least 20 rows"):
        fit(rows)


def test_a_model_for_other_features_is_refused() -> None:
    with pytest.raises(ValueError, match="calibrate again"):
        predict({"features": ["length"]}, tokens("a"))


@settings(max_examples=50)
@given(st.lists(strategies.evidence, min_size=1, max_size=30))
def test_a_prediction_is_a_probability_for_any_evidence(evidence: list[Token]) -> None:
    assert 0.0 <= predict(MODEL, evidence) <= 1.0


MODEL = fit(answers())

scored = st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=60)


@given(scored, st.floats(0.5, 1.0))
def test_what_a_chosen_threshold_keeps_is_as_precise_as_asked(pairs: list[tuple[float, bool]], precision: float) -> None:
    p, right = np.array([score for score, _ in pairs]), np.array([good for _, good in pairs])
    threshold = choose_threshold(p, right, precision)
    kept = right[p >= threshold]
    assert threshold == 1.0 or kept.mean() >= precision - 1e-12


@given(scored)
def test_auroc_is_the_share_of_pairs_in_the_right_order(pairs: list[tuple[float, bool]]) -> None:
    p, right = np.array([score for score, _ in pairs]), np.array([good for _, good in pairs])
    compared = [(a > b) + 0.5 * (a == b) for a in p[right] for b in p[~right]]
    assert auroc(p, right) == pytest.approx(np.mean(compared) if compared else 0.5)


def test_calibration_error_is_the_gap_between_confidence_and_accuracy() -> None:
    right = np.array([True] * 8 + [False] * 2)
    assert expected_calibration_error(np.full(10, 0.8), right, bins=1) == pytest.approx(0.0)
    assert expected_calibration_error(np.full(10, 0.5), right, bins=1) == pytest.approx(0.3)


def test_the_uncalibrated_score_is_a_geometric_mean() -> None:
    assert mean_probability([math.log(0.25), math.log(1.0)]) == pytest.approx(0.5)
    assert mean_probability([]) == 0.0
    assert confidence.mean_probability([-1e9]) == 0.0
