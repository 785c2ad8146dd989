from __future__ import annotations

import pytest

from fakes import FakeClock, FakeCloud, FakeEdge, call_tokens, chunks, tokens
from leanto import Client, Policy
from leanto.local.pace import EXPIRES_S, Pace
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


def test_a_speed_expires_and_the_next_one_counts_alone() -> None:
    clock = FakeClock()
    pace = Pace(clock.clock)
    pace.observe("call", 20, 2000.0)  # the laptop slept meanwhile
    clock.advance(EXPIRES_S - 1)
    assert pace.expected_ms("call", 128) == pytest.approx(2e6)
    clock.advance(1)
    assert pace.expected_ms("call", 128) is None
    pace.observe("call", 20, 0.2)
    assert pace.expected_ms("call", 128) == pytest.approx(200)
    clock.advance(-1e6)
    assert pace.expected_ms("call", 128) is None


def test_an_answer_that_was_given_up_tells_the_speed_and_not_the_length() -> None:
    pace = Pace()
    pace.observe("call", 20, 2.0)
    pace.observe("call", 4, 40.0, finished=False)
    assert pace.tokens("call") == 20
    assert pace.expected_ms("call", 128) == pytest.approx(1000 * 20 / (0.8 * 10 + 0.2 * 0.1))
    other = Pace()
    other.observe("text", 4, 40.0, finished=False)
    assert (other.tokens("text"), other.expected_ms("text", 128)) == (None, None)


def asked(client: Client, times: int) -> list[tuple[str, bool]]:
    replies = [client.ask("when do I wake") for _ in range(times)]
    return [(reply.route, "too-slow" in reply.decision.labels) for reply in replies]


def test_a_slow_reader_is_no_slow_edge() -> None:
    clock = FakeClock()
    edge = FakeEdge(tokens(" ".join("abcdefgh")), work=lambda: clock.advance(0.05))
    policy = Policy(budgets=Budgets(deadline_ms=60_000))
    with Client(model=edge, cloud=FakeCloud(chunks(CALL)), policy=policy, sources=(), clock=clock.clock) as client:
        for _ in client.stream("once", task="text"):
            clock.advance(20)
        found = client.ask("once", task="text")
    assert (found.route, found.decision.facts and found.decision.facts.expected_local_ms) == ("local", pytest.approx(400))


def test_an_edge_that_was_slow_once_is_tried_again_after_a_while() -> None:
    clock = FakeClock()
    edge = FakeEdge(call_tokens(CALL), work=lambda: clock.advance(0.1))
    policy = Policy(budgets=Budgets(deadline_ms=30_000))
    with Client(model=edge, cloud=FakeCloud(chunks(CALL)), policy=policy, sources=(), clock=clock.clock) as client:
        assert asked(client, 1) == [("local", False)]
        for _ in range(20):
            client._async._pace.observe("call", 10, 1000.0)
        assert asked(client, 2) == [("cloud", True)] * 2
        clock.advance(EXPIRES_S)
        assert asked(client, 2) == [("local", False)] * 2


def test_an_edge_that_is_still_slow_is_given_up_and_not_tried_again_for_a_while() -> None:
    clock, token_s = FakeClock(), [0.1]
    edge = FakeEdge(call_tokens(CALL, n=20), work=lambda: clock.advance(token_s[0]))
    policy = Policy(budgets=Budgets(deadline_ms=30_000))
    with Client(model=edge, cloud=FakeCloud(chunks(CALL)), policy=policy, sources=(), clock=clock.clock) as client:
        assert asked(client, 1) == [("local", False)]
        token_s[0] = 3.0
        clock.advance(EXPIRES_S)
        assert asked(client, 3) == [("local→cloud", True), ("cloud", True), ("cloud", True)]
    assert len(edge.requests) == 2


def test_an_edge_that_cannot_be_through_in_time_is_not_tried_again() -> None:
    clock = FakeClock(tick_s=0.05)
    policy = Policy(budgets=Budgets(deadline_ms=2000))
    cloud = FakeCloud(chunks(CALL))
    with Client(model=FakeEdge(call_tokens(CALL)), cloud=cloud, policy=policy, sources=(), clock=clock.clock) as client:
        first = client.ask("when do I wake")
        for _ in range(20):
            client._async._pace.observe("call", 10, 60.0)
        second = client.ask("when do I wake", max_tokens=64)
    assert first.route == "local"
    assert (second.route, second.decision.labels[-1]) == ("cloud", "too-slow")
