"""What fails, fails in one piece: nothing is shown twice, and nothing shown is lost."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from asking import BETTER, CALL, POLICY, ask, client, final, handed, stream, visible
from fakes import SURE, UNSURE, FakeClock, FakeCloud, FakeEdge, UntouchableCloud, call_tokens, chunks, fault, tokens
from leanto import (
    AsyncClient,
    BudgetSpent,
    CloudUnavailable,
    DeadlineExceeded,
    EngineFault,
    Event,
    EvidenceRefused,
    HandoffEvent,
    NoRoute,
    ProtocolFault,
    TextEvent,
)
from leanto.ledger import Ledger
from leanto.policy.schema import Budgets, CloudTarget, Handoff, Offline
from leanto.remote import RemoteRequest
from leanto_edge import GenerationRequest


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


def test_on_a_low_battery_with_a_dead_cloud_the_edge_answers_all_the_same() -> None:
    reply = ask(client(FakeEdge(call_tokens(CALL)), FakeCloud([fault(CloudUnavailable)]), simulate="battery=9%"))
    assert (reply.text, reply.route) == (CALL, "local")
    assert reply.decision.labels == ("battery", "cloud-unreachable", "confident")


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


def test_an_edge_that_fails_hands_over_to_the_cloud() -> None:
    edge = FakeEdge([*tokens("a b", finish=None), RuntimeError("out of memory")])
    reply = ask(client(edge, FakeCloud(chunks("x y"))), task="text")
    assert (reply.text, reply.decision.label) == ("x y", "edge-failed")


def test_an_edge_that_fails_without_a_cloud_is_a_fault_in_one_line() -> None:
    with pytest.raises(EngineFault, match="the local model failed: out of memory; run `leanto doctor`"):
        ask(client(FakeEdge([RuntimeError("out of memory")])), task="text")


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


@dataclass(frozen=True)
class Story:
    """A request whose ends fail at a given word. Each says the number of every word that it adds."""

    length: int
    doubt_at: int
    dies_after: int | None
    breaks_at: int | None
    retryable: bool
    chunk: int
    calls: int | None = None  # that the budget of the day leaves
    token_s: float = 0.0  # which the edge takes, where its answers usually have 40

    def words(self, source: str, prefix: str) -> str:
        start = len(prefix.split())
        text = " ".join(f"{source}{i}" for i in range(start, max(self.length, start + 1)))
        return f" {text}" if prefix else text

    def edge(self, request: GenerationRequest) -> list[Any]:
        start = len(request.prefix.split())
        scores = [SURE if start + i < self.doubt_at else UNSURE for i in range(self.length + 1)]
        script: list[Any] = [token for token in tokens(self.words("e", request.prefix), scores) if token.text]
        if self.breaks_at is not None:
            script.insert(self.breaks_at, RuntimeError("broken"))
        return script

    def cloud(self, request: RemoteRequest) -> list[Any]:
        script: list[Any] = [part for part in chunks(self.words("c", request.prefix), size=self.chunk) if part.text]
        return script if self.dies_after is None else [*script[: self.dies_after], fault(CloudUnavailable, retryable=self.retryable)]


STORIES = st.builds(
    Story,
    length=st.integers(1, 12),
    doubt_at=st.integers(0, 12),
    dies_after=st.none() | st.integers(0, 12),
    breaks_at=st.none() | st.integers(0, 12),
    retryable=st.booleans(),
    chunk=st.integers(1, 3),
    calls=st.none() | st.integers(0, 3),
    token_s=st.sampled_from([0.0, 2.0]),
)
HANDOFFS = st.builds(
    Handoff,
    hold_tokens=st.integers(0, 6),
    stream_floor=st.just(-2.0),
    window=st.integers(1, 4),
    resume=st.sampled_from(["prefix", "restart"]),
    max_switches=st.integers(0, 3),
)


@settings(max_examples=200)
@given(story=STORIES, handoff=HANDOFFS, whole=st.booleans())
@example(Story(3, 1, 0, None, True, 1), Handoff(0, -2.0, 1, "prefix", 2), False)  # doubted, the cloud fails, and the last word is shown
@example(Story(12, 12, 3, None, True, 1, token_s=2.0), Handoff(1, -2.0, 1, "prefix", 2), False)  # too slow, and the cloud dies
def test_whatever_fails_and_wherever_every_word_is_shown_once_and_in_order(story: Story, handoff: Handoff, whole: bool) -> None:
    clock = FakeClock()
    edge, cloud = FakeEdge(story.edge, work=lambda: clock.advance(story.token_s)), FakeCloud(story.cloud)
    budgets = Budgets(cloud_calls_per_day=story.calls, deadline_ms=75_000)
    at = client(edge, cloud, replace(POLICY, handoff=handoff, budgets=budgets), ledger=Ledger(), clock=clock.clock)
    at._pace.observe("text", 40, 1.0)
    events: list[Event] = []
    try:
        text = ask(at, task="text").text if whole else asyncio.run(told(at, events, handoff.max_switches))
        assert len(text.split()) >= story.length
        assert handoff.resume == "restart" or all(text.startswith(request.prefix) for request in cloud.requests)
    except (EngineFault, CloudUnavailable, BudgetSpent):  # both ends failed: what was shown stands
        assert story.breaks_at is not None
        text = visible(events)
    assert [int(word[1:]) for word in text.split()] == list(range(len(text.split())))
    assert story.calls is None or len(cloud.calls) <= story.calls
    assert edge.open == 0
    assert all(call.closed for call in cloud.calls)


async def told(at: AsyncClient, events: list[Event], max_switches: int) -> str:
    """The answer as its events tell it, which must agree with the account."""
    async for event in at.stream("once", task="text"):
        if isinstance(event, HandoffEvent):
            assert event.visible_chars == len(visible(events))
        events.append(event)
    reply, decision = final(events), final(events).decision
    assert visible(events) == reply.text
    assert decision.local_tokens + decision.cloud_tokens - decision.wasted_tokens == reply.tokens
    assert decision.switches <= max_switches
    return reply.text
