"""Who answers, and when it changes hands."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from asking import BETTER, CALL, POLICY, ask, client, final, handed, stream, visible
from fakes import SURE, UNSURE, FakeClock, FakeCloud, FakeEdge, UntouchableCloud, call_tokens, chunks, fault, tokens
from leanto import (
    CloudUnavailable,
    DeadlineExceeded,
    Event,
    HandoffEvent,
    PromptRefused,
    RestartEvent,
)
from leanto.policy.schema import Budgets
from leanto_edge import PromptError


def test_a_confident_answer_stays_on_the_edge() -> None:
    edge = FakeEdge(call_tokens(CALL))
    reply = ask(client(edge, UntouchableCloud()))
    assert (reply.text, reply.route, reply.decision.label) == (CALL, "local", "confident")
    assert reply.call == {"intent": "alarm_query", "slots": {}}
    assert reply.decision.wasted_tokens == 0
    assert reply.decision.bytes_sent == 0


def test_a_doubtful_call_is_asked_of_the_cloud_from_the_prompt() -> None:
    cloud = FakeCloud(chunks(BETTER))
    reply = ask(client(FakeEdge(call_tokens(CALL, UNSURE, n=1)), cloud))
    assert (reply.text, reply.route, reply.decision.label) == (BETTER, "local→cloud", "low-confidence")
    assert [request.prefix for request in cloud.requests] == [""]
    assert reply.decision.wasted_tokens == 1
    assert reply.decision.cloud_model == "fake-large"
    assert reply.decision.cloud_evidence == "development:00"
    assert reply.decision.bytes_sent == 100


def test_without_a_cloud_a_doubtful_answer_is_kept_and_labelled() -> None:
    reply = ask(client(FakeEdge(call_tokens(CALL, UNSURE))))
    assert (reply.text, reply.route, reply.decision.label) == (CALL, "local", "no-cloud, low-confidence")


def test_a_private_request_never_touches_the_cloud() -> None:
    reply = ask(client(FakeEdge(call_tokens(CALL, UNSURE)), UntouchableCloud()), private=True)
    assert (reply.route, reply.decision.label) == ("local", "private, low-confidence")


def test_on_a_low_battery_the_cloud_answers_at_once() -> None:
    edge = FakeEdge(call_tokens(CALL))
    reply = ask(client(edge, FakeCloud(chunks(BETTER)), simulate="battery=9%"))
    assert (reply.text, reply.route, reply.decision.label) == (BETTER, "cloud", "battery")
    assert edge.requests == []
    assert reply.confidence is None


def test_doubt_in_the_hold_back_window_hands_off_before_anything_is_visible() -> None:
    edge = FakeEdge(tokens("a b c d e", [SURE, UNSURE]))
    cloud = FakeCloud(chunks("one two three"))
    events = stream(client(edge, cloud), task="text")
    assert events[0] == HandoffEvent("doubt-in-stream", "local", "cloud", 0)
    assert visible(events) == "one two three"
    assert cloud.requests[0].prefix == ""
    assert final(events).route == "local→cloud"
    assert final(events).decision.wasted_tokens == 2


def test_after_visible_text_the_cloud_goes_on_from_exactly_that() -> None:
    edge = FakeEdge(tokens("a b c d e f", [SURE, SURE, SURE, SURE, UNSURE]))
    cloud = FakeCloud(chunks(" C D"))
    events = stream(client(edge, cloud), task="text", max_tokens=40)
    assert cloud.requests[0].prefix == "a b"
    assert cloud.requests[0].max_tokens == 38
    assert visible(events) == "a b C D" == final(events).text
    assert HandoffEvent("doubt-in-stream", "local", "cloud", 3) in events


def test_resume_restart_says_so_once_and_begins_anew() -> None:
    edge = FakeEdge(tokens("a b c d e f", [SURE, SURE, SURE, SURE, UNSURE]))
    cloud = FakeCloud(chunks("anew all of it"))
    events = stream(client(edge, cloud, handed(resume="restart")), task="text")
    assert [event for event in events if isinstance(event, RestartEvent)] == [RestartEvent(3)]
    assert cloud.requests[0].prefix == ""
    assert visible(events) == "anew all of it" == final(events).text
    assert final(events).decision.wasted_tokens == 5


def test_max_switches_zero_keeps_doubtful_text_on_the_edge() -> None:
    edge = FakeEdge(tokens("a b c d", UNSURE))
    events = stream(client(edge, UntouchableCloud(), handed(max_switches=0)), task="text")
    assert visible(events) == "a b c d"
    assert final(events).decision.labels == ("max-switches", "doubt-in-stream", "low-confidence")


def test_a_finished_answer_that_was_shown_is_not_taken_back() -> None:
    edge = FakeEdge(tokens("a b c d", -1.5))
    events = stream(client(edge, UntouchableCloud()), task="text")
    assert visible(events) == "a b c d"
    assert final(events).decision.labels == ("already-visible", "low-confidence")


def test_a_short_doubtful_answer_still_held_back_is_asked_of_the_cloud() -> None:
    events = stream(client(FakeEdge(tokens("a b", -1.5)), FakeCloud(chunks("x y z"))), task="text")
    assert visible(events) == "x y z"


def slow(token_s: float, cloud: Any, deadline_ms: int = 10_000, words: int = 40, **asked: Any) -> tuple[list[Event], FakeEdge]:
    """What is seen of an answer of up to 40 tokens that takes `token_s` for each."""
    clock = FakeClock()
    edge = FakeEdge(tokens(" ".join(f"e{i}" for i in range(words))), work=lambda: clock.advance(token_s))
    policy = replace(POLICY, budgets=Budgets(deadline_ms=deadline_ms))
    return stream(client(edge, cloud, policy, clock=clock.clock), task="text", max_tokens=40, **asked), edge


def test_an_edge_that_turns_out_too_slow_hands_off_in_time_for_the_cloud() -> None:
    cloud = FakeCloud(chunks(" and the rest"))
    events, edge = slow(0.5, cloud)
    shown = " ".join(f"e{i}" for i in range(8))
    assert HandoffEvent("too-slow", "local", "cloud", len(shown)) in events
    assert cloud.requests[0].prefix == shown
    assert cloud.requests[0].timeout_s == pytest.approx(4.0)  # four fifths of the second half
    assert visible(events) == f"{shown} and the rest"
    (check,) = (check for check in final(events).decision.checks if check.name == "local_ms")
    assert (check.stage, check.threshold, check.verdict) == ("stream", 10_000, "veto")
    assert check.value == pytest.approx(20_000)
    assert check.flip == "<= 10000"
    assert edge.open == 0


def test_an_edge_that_will_be_through_in_time_goes_on() -> None:
    events, _ = slow(0.2, UntouchableCloud())
    assert final(events).route == "local"


@pytest.mark.parametrize(("cloud", "asked"), [(None, {}), (UntouchableCloud(), {"private": True})])
def test_where_the_cloud_may_not_answer_a_slow_edge_goes_on_until_the_deadline(cloud: Any, asked: dict[str, Any]) -> None:
    assert final(slow(0.2, cloud, **asked)[0]).route == "local"
    with pytest.raises(DeadlineExceeded):
        slow(0.5, cloud, **asked)


def test_a_slow_edge_goes_on_where_the_cloud_fails() -> None:
    events, _ = slow(0.4, FakeCloud([fault(CloudUnavailable)]), deadline_ms=15_000, words=30)
    assert visible(events) == " ".join(f"e{i}" for i in range(30))
    assert {"too-slow", "cloud-unreachable"} <= set(final(events).decision.labels)


def test_a_round_trip_that_nobody_knows_keeps_nobody_from_measuring_it() -> None:
    limited = Budgets(max_rtt_ms=500, unknown_signals="fail", battery_floor_percent=0)
    for budgets, wanted in ((limited, True), (Budgets(), False)):
        cloud = FakeCloud(chunks(BETTER))
        ask(client(FakeEdge(call_tokens(CALL, UNSURE)), cloud, replace(POLICY, budgets=budgets), simulate="temperature=40"))
        assert [request.wants_rtt for request in cloud.requests] == [wanted]


def test_ask_keeps_everything_back_until_it_is_judged() -> None:
    cloud = FakeCloud(chunks("x y"))
    reply = ask(client(FakeEdge(tokens("a b c d e f", -1.5)), cloud), task="text")
    assert (reply.text, cloud.requests[0].prefix) == ("x y", "")


def test_a_prompt_that_the_edge_refuses_is_asked_of_the_cloud_where_allowed() -> None:
    edge = FakeEdge([PromptError("the prompt has 600 tokens, the context holds 512; shorten it")])
    assert ask(client(edge, FakeCloud(chunks("x"))), task="text").decision.label == "edge-cannot"
    with pytest.raises(PromptRefused, match="600 tokens"):
        ask(client(edge), task="text")


def test_a_prompt_too_long_for_the_edge_is_refused_when_no_cloud_may_answer() -> None:
    edge = FakeEdge(tokens("a"), context_length=4)
    with pytest.raises(PromptRefused, match="shorten it"):
        ask(client(edge), "a b c d e", task="text")
    assert ask(client(edge, FakeCloud(chunks("x"))), "a b c d e", task="text").decision.label == "too-long"


def test_a_task_that_the_edge_does_not_know_is_refused_when_no_cloud_may_answer() -> None:
    with pytest.raises(PromptRefused, match="does not know the task 'call'"):
        ask(client(FakeEdge(tokens("a"), tasks=("text",))), task="call")
