"""The low logprob of an answer so far: one outlier is not enough, two are; and what it does to a request."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asking import BETTER, CALL, POLICY, ask, client
from fakes import FakeCloud, FakeEdge, UntouchableCloud, call_tokens, chunks, tokens
from leanto.confidence import fit, lowest_in_stream
from leanto.local.low_logprob import LowLogprob
from leanto.policy import judge_low
from leanto.policy.schema import Quality
from leanto.policy.verdict import Verdict

DOUBTED = [replace(token, logprob=-0.9 if i in (1, 3) else -0.01) for i, token in enumerate(call_tokens(CALL, n=9))]
ROWS = [(call_tokens(CALL, -0.01 * n if right else -n), right) for n in range(1, 21) for right in (True, False)]
CALIBRATED = {"call": {**fit(ROWS), "stream_floor": -0.5, "threshold": 0.0}}


@given(st.lists(st.floats(-20, 0), min_size=1, max_size=60))
def test_it_is_a_low_quantile_but_never_the_lowest(logprobs: list[float]) -> None:
    low = LowLogprob()
    last = [low.add(logprob) for logprob in logprobs][-1]
    ranked = sorted(logprobs)
    assert last == (ranked[1 + len(ranked) // 10] if len(ranked) > 1 else 0.0)


def test_one_outlier_changes_nothing_and_two_do() -> None:
    assert lowest_in_stream(tokens("a b c d", [-0.1, -9.0, -0.1, -0.1])) == -0.1
    assert lowest_in_stream(tokens("a b c d", [-0.1, -9.0, -0.1, -7.0])) == -7.0


def test_a_call_that_goes_wrong_is_handed_off_before_its_end() -> None:
    edge = FakeEdge(DOUBTED, confidence=CALIBRATED)
    reply = ask(client(edge, FakeCloud(chunks(BETTER)), replace(POLICY, handoff=replace(POLICY.handoff, stream_floor=None))))
    assert (reply.route, reply.text) == ("local→cloud", BETTER)
    assert edge.pulled == 4  # the second doubtful token, of nine
    check = next(check for check in reply.decision.checks if check.name == "low_logprob")
    assert (check.value, check.threshold, check.verdict) == (-0.9, -0.5, "veto")


@pytest.mark.parametrize("floor", [None, -1.0])
def test_the_policy_may_say_otherwise(floor: float | None) -> None:
    policy = replace(POLICY, handoff=replace(POLICY.handoff, stream_floor=None, low_floor=floor), quality=Quality())
    reply = ask(client(FakeEdge(DOUBTED, confidence=CALIBRATED), UntouchableCloud(), policy=policy))
    assert reply.route == "local"


def test_a_private_call_is_not_even_watched() -> None:
    edge = FakeEdge(DOUBTED, confidence=CALIBRATED)
    assert ask(client(edge, UntouchableCloud()), private=True).route == "local"
    assert edge.pulled == 9


def test_without_a_floor_nothing_is_recorded() -> None:
    assert judge_low(POLICY, Verdict(), -5.0, None) == Verdict()
