from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from leanto import ModelError
from leanto.router import Outcome, read_outcomes, train
from leanto.router.design import Design
from leanto.router.training import FEWEST, FOLDS, apgr, folds

SUBJECTS = {"algebra": "solve x^2 = {n} for x", "history": "who was king in {n}", "law": "the court held that {n}"}


def outcomes(n: int = 120) -> list[Outcome]:
    kinds = list(SUBJECTS.items())
    return [Outcome(kinds[i % 3][1].format(n=i), float(i % 3 == 0), f"{kinds[i % 3][0]} {i % 15}") for i in range(n)]


groups = st.lists(st.sampled_from("abcdefghij"), min_size=1, max_size=80)


@given(groups.filter(lambda names: len(set(names)) >= FOLDS), st.integers(2, 10), st.integers(0, 3))
def test_a_group_is_never_in_two_folds(names: list[str], count: int, seed: int) -> None:
    found = folds([Outcome(f"prompt {i}", 0.0, name) for i, name in enumerate(names)], count, seed)
    assert len(set(zip(names, found, strict=True))) == len(set(names))


@given(groups, st.integers(0, 3))
def test_without_groups_the_same_prompt_is_never_in_two_folds(names: list[str], seed: int) -> None:
    found = folds([Outcome(name, 0.0) for name in names], seed=seed)
    assert len(set(zip(names, found, strict=True))) == len(set(names))


def test_folds_are_of_even_sizes() -> None:
    assert np.ptp(np.bincount(folds([Outcome(str(i), 0.0) for i in range(52)]))) == 1


def test_nothing_of_the_rows_left_out_is_in_a_fit() -> None:
    rows, other = outcomes(), Outcome("zebra zebra ??? = = = NOT", 1.0)
    kept = np.arange(0, 120, 2)
    gain = np.array([row.gain for row in rows])
    before = Design([row.prompt for row in rows]).fit(kept, gain, 300.0, 12.0)
    changed = [row if i % 2 == 0 else other for i, row in enumerate(rows)]
    after = Design([row.prompt for row in changed]).fit(kept, np.array([row.gain for row in changed]), 300.0, 12.0)
    assert before.bias == after.bias
    np.testing.assert_array_equal(before.structure_weight, after.structure_weight)
    np.testing.assert_array_equal(before.term_weight, after.term_weight)
    np.testing.assert_array_equal(before.predict(kept), after.predict(kept))


def test_labels_that_are_noise_give_no_better_than_chance_out_of_fold() -> None:
    random = np.random.default_rng(0)
    report = train([Outcome(" ".join(random.choice(list("abcdefgh"), 9)), float(random.random() < 0.4)) for _ in range(400)]).report
    assert 0.4 < report["auroc"] < 0.6
    assert 0.4 < report["apgr"] < 0.6


def test_a_fit_is_the_ridge_regression_that_it_claims_to_be() -> None:
    rows = outcomes(60)
    design, y = Design([row.prompt for row in rows]), np.array([row.gain for row in rows])
    everything = np.arange(60)
    fitted = design.fit(everything, y, 30.0, 5.0)
    z = ((design.structure - fitted.scaling.mean) / fitted.scaling.scale).clip(-4, 4)
    words = np.zeros((60, len(fitted.scaling.idf)))
    for row, found in enumerate(design.terms):
        words[row, found] = fitted.scaling.idf[found]
    words /= np.linalg.norm(words, axis=1, keepdims=True)
    kernel = z @ z.T / 30 + words @ words.T / 5 + 1
    expected = y.mean() + kernel @ np.linalg.solve(kernel + np.eye(60), y - y.mean())
    np.testing.assert_allclose(fitted.predict(everything), expected, atol=2e-3)


def test_training_is_deterministic() -> None:
    first, second = train(outcomes()), train(outcomes())
    assert first.report == second.report
    assert first.score("solve x^2 = 5") == second.score("solve x^2 = 5")


def test_the_report_says_what_was_held_out() -> None:
    rows = outcomes()
    assert train(rows).report["held_out"] == "groups"
    assert train([Outcome(row.prompt, row.gain) for row in rows]).report["held_out"] == "prompts"


def test_a_cloud_that_is_worse_on_the_whole_has_no_gap_to_recover() -> None:
    assert train([Outcome(row.prompt, row.gain or -1.0) for row in outcomes()]).report["apgr"] is None


@pytest.mark.parametrize("rows", [[], outcomes()[: FEWEST - 1], [Outcome(str(i), 0.0) for i in range(99)], [Outcome("x", 1.0)] * 99])
def test_too_few_or_one_sided_outcomes_teach_nothing(rows: list[Outcome]) -> None:
    with pytest.raises(ValueError, match=f"at least {FEWEST} are needed, of both kinds"):
        train(rows)


def test_one_prompt_asked_often_teaches_nothing() -> None:
    with pytest.raises(ValueError, match="fewer than 5 different prompts"):
        train([Outcome("wake me", float(i % 2)) for i in range(99)])


@pytest.mark.parametrize("gain", [1.5, float("nan")])
def test_a_gain_that_no_two_qualities_can_have_is_refused(gain: float) -> None:
    with pytest.raises(ValueError, match="outside"):
        Outcome("x", gain)


gains = st.lists(st.sampled_from([-1.0, 0.0, 1.0]), min_size=2, max_size=40).filter(lambda gain: sum(gain) > 0)


@given(gains)
def test_one_score_for_all_is_chance(gain: list[float]) -> None:
    assert apgr(np.array(gain), np.zeros(len(gain))) == pytest.approx(0.5)


@given(gains)
def test_a_router_and_its_opposite_share_the_whole(gain: list[float]) -> None:
    score = np.arange(len(gain), dtype=np.float64)
    forward, backward = apgr(np.array(gain), score), apgr(np.array(gain), -score)
    assert forward is not None
    assert backward is not None
    assert forward + backward == pytest.approx(1.0)


@given(gains)
def test_nothing_beats_the_order_of_the_true_gains(gain: list[float]) -> None:
    true = np.array(gain)
    best, other = apgr(true, -true), apgr(true, np.arange(len(gain), dtype=np.float64))
    assert best is not None
    assert other is not None
    assert best >= other - 1e-9


def test_outcomes_are_read_in_both_forms(tmp_path: Path) -> None:
    rows = [{"prompt": "a", "local_right": True, "cloud_right": False, "group": "g"}, {"prompt": "b\u2028c", "gain": 1}]
    (tmp_path / "x").write_text("\n\n".join(json.dumps(row, ensure_ascii=False) for row in rows))
    assert read_outcomes(tmp_path / "x") == [Outcome("a", -1.0, "g"), Outcome("b\u2028c", 1.0)]


@pytest.mark.parametrize(
    "line",
    [
        *("{", "[]", "3", "[" * 100_000, '{"prompt": "a"}', '{"prompt": 1, "gain": 0}'),
        *(
            '{"prompt": "a", "gain": 2}',
            '{"prompt": "a", "gain": 1' + "0" * 400 + "}",
            '{"prompt": "a", "gain": true}',
            '{"prompt": "a", "gain": NaN}',
            '{"prompt": "a", "gain": "1"}',
        ),
        *('{"prompt": "a", "local_right": 1, "cloud_right": true}', '{"prompt": "a", "gain": 0, "group": 7}'),
    ],
)
def test_a_line_that_is_no_outcome_is_named(tmp_path: Path, line: str) -> None:
    (tmp_path / "x").write_text('{"prompt": "fine", "gain": 0}\n' + line)
    with pytest.raises(ModelError, match=":2: expected"):
        read_outcomes(tmp_path / "x")


def test_outcomes_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"\xff\xfe")
    for path in (tmp_path / "x", tmp_path / "absent", tmp_path):
        with pytest.raises(ModelError, match="cannot be read"):
            read_outcomes(path)


def test_on_real_outcomes_a_router_is_better_than_chance_even_on_subjects_that_it_never_saw(data_dir: Path) -> None:
    folder = data_dir / "routing" / "routellm" / "mmlu_responses"
    if not folder.is_dir():
        pytest.skip("RouteLLM's MMLU outcomes are absent from the data folder")
    rows = []
    for path in sorted(folder.glob("*.csv")):
        with path.open(newline="") as file:
            listed = list(csv.reader(file))[1::4]
        rows += [Outcome(prompt, float(strong == "True") - float(weak == "True"), path.stem) for prompt, weak, strong in listed]
    assert train(rows).report["apgr"] > 0.55
    assert train([Outcome(row.prompt, row.gain) for row in rows]).report["apgr"] > 0.6
