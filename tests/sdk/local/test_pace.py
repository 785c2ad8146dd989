from __future__ import annotations

import pytest

from fakes import FakeClock, FakeCloud, FakeEdge, call_tokens, chunks
from leanto import Client, Policy
from leanto.local.pace import Pace
from leanto.policy.schema import Budgets

CALL = '{"intent": "alarm_query", "slots": {}}'


def test_nothing_is_expected_before_an_answer_was_seen() -> None:
    assert Pace().expected_ms("call", 128) is None


def test_what_is_expected_follows_the_last_answers_of_the_task() -> None:
    pace = Pace()
    pace.observe("call", 20, 0.1)
    assert pace.expected_ms("call", 128) == pytest.approx(100)
    assert pace.expected_ms("call", 10) == pytest.approx(50)
    assert pace.expected_ms("text", 10) is None
    for _ in range(50):
        pace.observe("call", 40, 4.0)
    assert pace.expected_ms("call", 128) == pytest.approx(4000, rel=0.05)


@pytest.mark.parametrize(("tokens", "seconds"), [(0, 1.0), (2, 1.0), (20, 0.0), (20, -1.0), (20, float("nan"))])
def test_what_says_nothing_of_the_speed_is_passed_over(tokens: int, seconds: float) -> None:
    pace = Pace()
    pace.observe("call", tokens, seconds)
    assert pace.expected_ms("call", 128) is None


def test_an_edge_that_cannot_be_through_in_time_is_not_tried_again() -> None:
    clock = FakeClock(tick_s=0.05)
    policy = Policy(budgets=Budgets(deadline_ms=600))
    cloud = FakeCloud(chunks(CALL))
    with Client(model=FakeEdge(call_tokens(CALL)), cloud=cloud, policy=policy, sources=(), clock=clock.clock) as client:
        first = client.ask("when do I wake")
        client._async._pace.observe("call", 10, 60.0)
        client._async._pace.observe("call", 10, 60.0)
        second = client.ask("when do I wake", max_tokens=64)
    assert first.route == "local"
    assert (second.route, second.decision.labels[-1]) == ("cloud", "too-slow")
