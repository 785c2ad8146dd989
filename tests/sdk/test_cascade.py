from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes import SURE, UNSURE, FakeClock, FakeCloud, FakeEdge, FakeMeter, UntouchableCloud, call_tokens, chunks, fault, tokens
from leanto import (
    AsyncClient,
    CloudUnavailable,
    DeadlineExceeded,
    EngineFault,
    Event,
    EvidenceRefused,
    FinalEvent,
    HandoffEvent,
    NoRoute,
    Policy,
    PromptRefused,
    ProtocolFault,
    Reply,
    RestartEvent,
    TextEvent,
)
from leanto.policy.schema import Budgets, CloudTarget, ConfidenceThreshold, Handoff, Offline, Quality
from leanto.remote import RemoteRequest
from leanto_edge import GenerationRequest, PromptError

CALL = '{"intent": "alarm_query", "slots": {}}'
BETTER = '{"intent": "alarm_set", "slots": {"time": "six"}}'
POLICY = Policy(
    handoff=Handoff(hold_tokens=2, stream_floor=-2.0, window=2),
    quality=Quality(ConfidenceThreshold(call=0.5, text=0.5)),
)


def client(edge: FakeEdge, cloud: Any = None, policy: Policy = POLICY, **options: Any) -> AsyncClient:
    return AsyncClient(model=edge, cloud=cloud, policy=policy, sources=(), meter=FakeMeter(None), **options)


def ask(client: AsyncClient, prompt: str = "when do I wake", **options: Any) -> Reply:
    return asyncio.run(client.ask(prompt, **options))


def stream(client: AsyncClient, prompt: str = "once", **options: Any) -> list[Event]:
    async def collect() -> list[Event]:
        return [event async for event in client.stream(prompt, **options)]

    return asyncio.run(collect())


def visible(events: list[Event]) -> str:
    text = ""
    for event in events:
        if isinstance(event, TextEvent):
            text += event.text
        elif isinstance(event, RestartEvent):
            assert event.dropped_chars == len(text)
            text = ""
    return text


def final(events: list[Event]) -> Reply:
    assert isinstance(events[-1], FinalEvent)
    return events[-1].reply


def handed(policy: Policy = POLICY, **fields: Any) -> Policy:
    return replace(policy, handoff=replace(policy.handoff, **fields))


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
    assert reply.decision.bytes_sent == 100


def test_without_a_cloud_a_doubtful_answer_is_kept_and_labelled() -> None:
    reply = ask(client(FakeEdge(call_tokens(CALL, UNSURE))))
    assert (reply.text, reply.route, reply.decision.label) == (CALL, "local", "no-cloud, low-confidence")


def test_a_private_request_never_touches_the_cloud() -> None:
    reply = ask(client(FakeEdge(call_tokens(CALL, UNSURE)), UntouchableCloud()), private=True)
    assert (reply.route, reply.decision.label) == ("local", "private, low-confidence")


@pytest.mark.parametrize(
    ("failure", "label"),
    [
        (fault(CloudUnavailable, retryable=True), "cloud-unreachable"),
        (fault(EvidenceRefused), "cloud-refused"),
        (fault(DeadlineExceeded), "cloud-late"),
        (fault(ProtocolFault), "cloud-invalid"),
    ],
)
def test_when_the_cloud_fails_the_local_answer_is_given_and_labelled(failure: Exception, label: str) -> None:
    edge = FakeEdge(call_tokens(CALL, UNSURE, n=1))
    reply = ask(client(edge, FakeCloud([failure])))
    assert (reply.text, reply.route, reply.decision.label) == (CALL, "local", f"low-confidence, {label}")
    assert len(edge.requests) == 1  # the answer at hand is used, not made again
    assert reply.decision.wasted_tokens == 0


def test_an_answer_of_the_node_that_is_no_call_is_refused() -> None:
    reply = ask(client(FakeEdge(call_tokens(CALL, UNSURE, n=1)), FakeCloud(chunks("sure, will do"))))
    assert (reply.text, reply.decision.label) == (CALL, "low-confidence, cloud-invalid")
    assert reply.decision.wasted_tokens == 3


def test_offline_mode_fail_raises_the_fault_with_its_decision() -> None:
    policy = replace(POLICY, offline=Offline("fail"))
    with pytest.raises(CloudUnavailable) as caught:
        ask(client(FakeEdge(call_tokens(CALL, UNSURE)), FakeCloud([fault(CloudUnavailable)]), policy))
    assert caught.value.decision is not None
    assert "cloud-unreachable" in caught.value.decision.labels


def test_offline_mode_fail_refuses_a_doubtful_answer_when_the_link_is_down() -> None:
    policy = replace(POLICY, offline=Offline("fail"))
    with pytest.raises(NoRoute, match="link is down"):
        ask(client(FakeEdge(call_tokens(CALL, UNSURE)), UntouchableCloud(), policy, simulate="link=down"))


def test_on_a_low_battery_the_cloud_answers_at_once() -> None:
    edge = FakeEdge(call_tokens(CALL))
    reply = ask(client(edge, FakeCloud(chunks(BETTER)), simulate="battery=9%"))
    assert (reply.text, reply.route, reply.decision.label) == (BETTER, "cloud", "battery")
    assert edge.requests == []
    assert reply.confidence is None


def test_on_a_low_battery_with_a_dead_cloud_the_edge_answers_all_the_same() -> None:
    reply = ask(client(FakeEdge(call_tokens(CALL)), FakeCloud([fault(CloudUnavailable)]), simulate="battery=9%"))
    assert (reply.text, reply.route) == (CALL, "local")
    assert reply.decision.labels == ("battery", "cloud-unreachable", "confident")


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


def test_a_restart_that_finds_the_cloud_dead_loses_nothing() -> None:
    edge = FakeEdge(tokens("a b c d e f", [SURE, SURE, SURE, SURE, UNSURE]))
    events = stream(client(edge, FakeCloud([fault(CloudUnavailable)]), handed(resume="restart")), task="text")
    assert visible(events) == "a b c d e f" == final(events).text
    assert final(events).decision.wasted_tokens == 0


def test_when_the_cloud_dies_before_its_first_word_the_paused_edge_goes_on() -> None:
    edge = FakeEdge(tokens("a b c d e f", [SURE, UNSURE]))
    events = stream(client(edge, FakeCloud([fault(CloudUnavailable, retryable=True)])), task="text")
    assert visible(events) == "a b c d e f"
    assert len(edge.requests) == 1
    assert final(events).route == "local"
    assert HandoffEvent("cloud-unreachable", "cloud", "local", 0) in events


def test_when_the_cloud_dies_in_mid_answer_the_edge_goes_on_from_what_is_visible() -> None:
    def edge_script(request: GenerationRequest) -> Any:
        return tokens(" E F" if request.prefix else "a b c d", [UNSURE, UNSURE] if not request.prefix else SURE)

    edge = FakeEdge(edge_script)
    cloud = FakeCloud([*chunks("x y", finish=None), fault(CloudUnavailable, retryable=True)])
    events = stream(client(edge, cloud), task="text", max_tokens=10)
    assert [request.prefix for request in edge.requests] == ["", "x y"]
    assert edge.requests[1].sampling.max_tokens == 8
    assert visible(events) == "x y E F" == final(events).text
    assert final(events).route == "local→cloud→local"


def test_a_stream_that_ends_without_saying_so_counts_as_a_dead_cloud() -> None:
    edge = FakeEdge(lambda request: tokens(" E" if request.prefix else "a b c", UNSURE))
    events = stream(client(edge, FakeCloud(chunks("x y", finish=None))), task="text")
    assert visible(events) == "x y E"
    assert "cloud-unreachable" in final(events).decision.labels


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


def test_ask_keeps_everything_back_until_it_is_judged() -> None:
    cloud = FakeCloud(chunks("x y"))
    reply = ask(client(FakeEdge(tokens("a b c d e f", -1.5)), cloud), task="text")
    assert (reply.text, cloud.requests[0].prefix) == ("x y", "")


def test_an_edge_that_fails_hands_over_to_the_cloud() -> None:
    edge = FakeEdge([*tokens("a b", finish=None), RuntimeError("out of memory")])
    reply = ask(client(edge, FakeCloud(chunks("x y"))), task="text")
    assert (reply.text, reply.decision.label) == ("x y", "edge-failed")


def test_an_edge_that_fails_without_a_cloud_is_a_fault_in_one_line() -> None:
    with pytest.raises(EngineFault, match="the local model failed: out of memory; run `leanto doctor`"):
        ask(client(FakeEdge([RuntimeError("out of memory")])), task="text")


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


def test_a_failed_edge_is_no_last_resort_for_a_failed_cloud() -> None:
    edge = FakeEdge([RuntimeError("out of memory")])
    with pytest.raises(CloudUnavailable):
        ask(client(edge, FakeCloud([fault(CloudUnavailable)])), task="text")


def test_the_deadline_ends_a_slow_edge() -> None:
    clock = FakeClock(tick_s=0.4)
    policy = replace(POLICY, budgets=Budgets(deadline_ms=1000))
    edge = FakeEdge(tokens("a b c d e f g h"))
    with pytest.raises(DeadlineExceeded) as caught:
        ask(client(edge, policy=policy, clock=clock.clock), task="text")
    assert caught.value.decision is not None
    assert edge.pulled < 4
    assert edge.open == 0


def test_a_deadline_that_passes_in_the_cloud_gives_the_complete_local_answer() -> None:
    clock = FakeClock()
    policy = replace(POLICY, budgets=Budgets(deadline_ms=1000))

    def slow(request: RemoteRequest) -> Any:
        assert 0 < request.timeout_s < 1
        clock.advance(2)
        return [fault(DeadlineExceeded)]

    reply = ask(client(FakeEdge(call_tokens(CALL, UNSURE, n=1)), FakeCloud(slow), policy, clock=clock.clock))
    assert (reply.text, reply.decision.label) == (CALL, "low-confidence, cloud-late")


def test_a_late_cloud_leaves_the_edge_time_to_finish() -> None:
    clock = FakeClock()
    policy = replace(POLICY, budgets=Budgets(deadline_ms=1000))

    def slow(request: RemoteRequest) -> Any:
        clock.advance(request.timeout_s)
        return [fault(DeadlineExceeded)]

    reply = ask(client(FakeEdge(call_tokens(CALL, UNSURE)), FakeCloud(slow), policy, clock=clock.clock))
    assert (reply.text, reply.decision.labels[:2]) == (CALL, ("doubt-in-stream", "cloud-late"))


def test_the_cloud_gets_no_more_time_than_its_own_timeout() -> None:
    cloud = FakeCloud(chunks(BETTER))
    ask(client(FakeEdge(call_tokens(CALL, UNSURE)), cloud, replace(POLICY, cloud=CloudTarget("node:1", timeout_ms=250))))
    assert cloud.requests[0].timeout_s <= 0.25


def test_closing_a_stream_early_closes_the_edge() -> None:
    edge = FakeEdge(tokens("a b c d e f g h"))

    async def leave() -> None:
        events = client(edge).stream("once", task="text")
        async for _ in events:
            break
        await events.aclose()

    asyncio.run(leave())
    assert edge.open == 0
    assert edge.pulled < 8


def test_closing_a_stream_early_cancels_the_call_in_the_cloud() -> None:
    cloud = FakeCloud(chunks("a b c d e f g h"))

    async def leave() -> None:
        events = client(FakeEdge([]), cloud, simulate="battery=9%").stream("once", task="text")
        async for event in events:
            if isinstance(event, TextEvent):
                break
        await events.aclose()

    asyncio.run(leave())
    assert cloud.calls[0].closed


@settings(max_examples=200)
@given(
    hold=st.integers(0, 6),
    window=st.integers(1, 4),
    doubt_at=st.integers(0, 12),
    length=st.integers(1, 12),
    dies_after=st.none() | st.integers(0, 12),
    max_switches=st.integers(0, 3),
    retryable=st.booleans(),
    chunk=st.integers(1, 3),
    whole=st.booleans(),
    breaks_at=st.none() | st.integers(0, 12),
    resume=st.sampled_from(["prefix", "restart"]),
)
def test_whatever_fails_and_wherever_every_word_is_shown_once_and_in_order(
    hold: int,
    window: int,
    doubt_at: int,
    length: int,
    dies_after: int | None,
    max_switches: int,
    retryable: bool,
    chunk: int,
    whole: bool,
    breaks_at: int | None,
    resume: Any,
) -> None:
    """Each leg says the number of every word it adds: the visible words must count up from 0 without gap or repeat."""
    shown_at_call: list[str] = []

    def words(source: str, prefix: str) -> str:
        start = len(prefix.split())
        text = " ".join(f"{source}{i}" for i in range(start, max(length, start + 1)))
        return f" {text}" if prefix else text

    def edge_script(request: GenerationRequest) -> Any:
        text = words("e", request.prefix)
        start = len(request.prefix.split())
        scores = [SURE if start + i < doubt_at else UNSURE for i in range(length + 1)]
        script: list[Any] = [token for token in tokens(text, scores) if token.text]
        if breaks_at is not None:
            script.insert(breaks_at, RuntimeError("broken"))
        return script

    def cloud_script(request: RemoteRequest) -> Any:
        shown_at_call.append(request.prefix)
        script: list[Any] = [part for part in chunks(words("c", request.prefix), size=chunk) if part.text]
        return script if dies_after is None else [*script[:dies_after], fault(CloudUnavailable, retryable=retryable)]

    policy = replace(POLICY, handoff=Handoff(hold, -2.0, window, resume, max_switches))
    edge, cloud = FakeEdge(edge_script), FakeCloud(cloud_script)
    at = client(edge, cloud, policy)
    events: list[Event] = []

    async def run() -> None:
        async for event in at.stream("once", task="text"):
            if isinstance(event, HandoffEvent):
                assert event.visible_chars == len(visible(events))
            events.append(event)

    try:
        if whole:
            text = ask(at, task="text").text
        else:
            asyncio.run(run())
            text = final(events).text
            assert visible(events) == text
            decision = final(events).decision
            assert decision.local_tokens + decision.cloud_tokens - decision.wasted_tokens == final(events).tokens
            assert decision.switches <= max_switches
        assert len(text.split()) >= length
        assert resume == "restart" or all(text.startswith(prefix) for prefix in shown_at_call)
        broken = False
    except (EngineFault, CloudUnavailable):  # both ends failed: what was shown stands
        text, broken = visible(events), True
    assert not broken or breaks_at is not None
    assert [int(word[1:]) for word in text.split()] == list(range(len(text.split())))
    assert edge.open == 0
    assert all(call.closed for call in cloud.calls)
