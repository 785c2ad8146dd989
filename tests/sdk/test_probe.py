from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asking import BETTER, CALL, ask, client, handed
from fakes import FakeCloud, FakeEdge, UntouchableCloud, call_tokens, chunks
from leanto import CloudUnavailable
from leanto.confidence import fit
from leanto.probe import fit_probe, probe

ROWS = [(call_tokens(CALL, -0.01 * n if right else -n), right) for n in range(1, 21) for right in (True, False)]
CALIBRATED = {"call": {**fit(ROWS), "threshold": 0.0, "probe": {"weights": [1.0, 0.0], "bias": 0.0, "floor": 0.4}}}
HOPELESS, HOPEFUL = (-2.0, 1.0), (2.0, 1.0)


def made_up(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """States of which two of twelve directions tell how likely a right answer is."""
    random = np.random.default_rng(seed)
    states = random.normal(3.0, 2.0, (n, 12)).astype(np.float32)
    return states, random.random(n) < 1 / (1 + np.exp(3 - states[:, 0] - 0.5 * (states[:, 1] - 3)))


def test_a_probe_finds_the_direction_that_tells() -> None:
    states, right = made_up(600)
    model = fit_probe(list(states), right.tolist())
    unseen, truth = made_up(600, seed=1)
    scores = np.array([probe(model, state) for state in unseen])
    assert model["auroc"] > 0.85
    assert scores[truth].mean() - scores[~truth].mean() > 0.3
    assert abs(scores.mean() - truth.mean()) < 0.05


def test_its_floor_gives_up_few_answers_that_are_right() -> None:
    states, right = made_up(2000)
    model = fit_probe(list(states), right.tolist())
    unseen, truth = made_up(2000, seed=2)
    below = np.array([probe(model, state) < model["floor"] for state in unseen])
    assert below[truth].mean() < 0.03
    assert below[~truth].mean() > below[truth].mean()


def test_what_tells_nothing_makes_a_probe_that_says_so() -> None:
    random = np.random.default_rng(0)
    model = fit_probe(list(random.normal(size=(400, 12)).astype(np.float32)), (random.random(400) < 0.5).tolist())
    assert abs(model["auroc"] - 0.5) < 0.1


@pytest.mark.parametrize(("rows", "right"), [(19, 9), (40, 0), (40, 40)])
def test_too_few_rows_are_refused(rows: int, right: int) -> None:
    with pytest.raises(ValueError, match="needs at least 20 rows"):
        fit_probe(list(np.ones((rows, 3), np.float32)), [i < right for i in range(rows)])


@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=4, max_size=4))
def test_a_probe_is_a_probability_wherever_it_is_asked(state: list[float]) -> None:
    model = {"weights": [1.0, -2.0, 0.5, 0.0], "bias": 0.1}
    assert 0.0 <= probe(model, np.array(state, np.float32)) <= 1.0
    with pytest.raises(ValueError, match="calibrate again"):
        probe(model, np.ones(5, np.float32))


def edge(state: tuple[float, float] = HOPELESS) -> FakeEdge:
    return FakeEdge(call_tokens(CALL), confidence=CALIBRATED, state=state)


def test_a_hopeless_prompt_is_handed_off_before_the_first_token() -> None:
    local = edge()
    reply = ask(client(local, FakeCloud(chunks(BETTER))))
    assert (reply.route, reply.text, local.pulled) == ("cloud", BETTER, 0)
    assert "hopeless-prompt" in reply.decision.labels
    check = next(check for check in reply.decision.checks if check.name == "probe")
    assert (check.stage, check.threshold, check.verdict, check.flip) == ("prompt", 0.4, "veto", ">= 0.4")
    assert check.value == pytest.approx(0.119, abs=1e-3)


def test_a_hopeful_one_stays_and_the_record_says_what_was_foreseen() -> None:
    reply = ask(client(edge(HOPEFUL), UntouchableCloud()))
    assert reply.route == "local"
    assert next(check.verdict for check in reply.decision.checks if check.name == "probe") == "pass"


@pytest.mark.parametrize("floor", [None, 0.1])
def test_the_policy_may_say_otherwise(floor: float | None) -> None:
    assert ask(client(edge(), UntouchableCloud(), policy=handed(probe_floor=floor))).route == "local"


def test_a_private_prompt_is_begun_whatever_is_foreseen() -> None:
    assert ask(client(edge(), UntouchableCloud()), private=True).route == "local"


def test_a_cloud_that_fails_gives_the_prompt_back() -> None:
    reply = ask(client(edge(), FakeCloud([CloudUnavailable("gone", retryable=False)])))
    assert (reply.route, reply.text) == ("local", CALL)
    assert "cloud-unreachable" in reply.decision.labels


def test_explain_says_what_will_be_asked_of_it() -> None:
    decision = client(edge(), UntouchableCloud()).explain("when do I wake")
    assert ("probe", "pending", 0.4) in [(check.name, check.verdict, check.threshold) for check in decision.checks]
