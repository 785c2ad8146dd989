from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from asking import CALL, POLICY, ask, client
from fakes import FakeClock, FakeCloud, FakeEdge, call_tokens, fault, tokens
from leanto import CloudUnavailable, DeadlineExceeded, Decision, EngineFault, LeantoError, TextEvent
from leanto.policy.schema import Budgets, Offline


class Records:
    """A recorder that keeps them."""

    def __init__(self) -> None:
        self.decisions: list[Decision] = []

    def write(self, decision: Decision) -> None:
        self.decisions.append(decision)

    def close(self) -> None:
        pass


def test_an_answered_request_has_no_error() -> None:
    assert ask(client(FakeEdge(call_tokens(CALL)))).decision.error is None


def test_a_stream_that_ran_out_of_time_says_so_although_text_was_shown() -> None:
    policy = replace(POLICY, budgets=Budgets(deadline_ms=4000))
    edge, seen = FakeEdge(tokens("a b c d e f g h i j k")), []

    async def read() -> None:
        async for event in client(edge, policy=policy, clock=FakeClock(tick_s=0.4).clock).stream("once", task="text"):
            seen.append(event)

    with pytest.raises(DeadlineExceeded) as caught:
        asyncio.run(read())
    assert isinstance(seen[0], TextEvent)
    assert caught.value.decision is not None
    assert (caught.value.decision.route, caught.value.decision.error) == ("local", "DeadlineExceeded")
    assert "failed    DeadlineExceeded" in caught.value.decision.explain()


@pytest.mark.parametrize("failure", [fault(CloudUnavailable), fault(EngineFault)])
def test_a_failed_request_is_recorded_with_the_class_of_its_error(failure: LeantoError) -> None:
    records, edge = Records(), FakeEdge([RuntimeError("no")] if isinstance(failure, EngineFault) else call_tokens(CALL, -6.0))
    cloud = None if isinstance(failure, EngineFault) else FakeCloud([failure])
    with pytest.raises(type(failure)):
        ask(client(edge, cloud, replace(POLICY, offline=Offline("fail")), recorders=[records]))
    assert [decision.error for decision in records.decisions] == [type(failure).__name__]


def test_a_reader_who_leaves_cancels_and_the_record_says_so() -> None:
    records = Records()

    async def leave() -> None:
        events = client(FakeEdge(tokens("a b c d e f g h")), recorders=[records]).stream("once", task="text")
        async for _ in events:
            break
        await events.aclose()

    asyncio.run(leave())
    assert [(decision.route, decision.error) for decision in records.decisions] == [("local", "cancelled")]
