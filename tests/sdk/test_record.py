from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

import strategies
from asking import CALL, POLICY, ask, client
from fakes import FakeClock, FakeCloud, FakeEdge, call_tokens, chunks, fault, tokens
from leanto import Check, CloudUnavailable, DeadlineExceeded, Decision, EngineFault, LeantoError, Policy, Snapshot, TextEvent
from leanto.policy import Facts, Spent, decide
from leanto.policy.schema import Audit, Budgets, Offline
from leanto.record import every_stage
from leanto.request import Task


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


SEVEN = ("constraints", "budgets", "prompt", "stream", "answer", "certificate", "audit")


def stages(checks: tuple[Check, ...]) -> list[str]:
    """Each stage once, in the order of its first check."""
    return list(dict.fromkeys(check.stage for check in checks if check.stage in SEVEN))


@pytest.mark.parametrize("task", ["call", "text"])
@pytest.mark.parametrize("logprob", [-0.05, -6.0])
@pytest.mark.parametrize("private", [True, False])
@pytest.mark.parametrize("cloud", [True, False])
def test_every_stage_is_in_every_record_in_order(task: Task, logprob: float, private: bool, cloud: bool) -> None:
    edge = FakeEdge(call_tokens(CALL, logprob) if task == "call" else tokens("a b c", logprob))
    far = FakeCloud(chunks(CALL, size=9)) if cloud else None
    checks = ask(client(edge, far), task=task, private=private).decision.checks
    assert stages(checks) == list(SEVEN)
    planned = client(edge, far).explain("now", task=task, private=private)
    assert stages(planned.checks) == list(SEVEN)


def test_a_failed_request_has_every_stage_too() -> None:
    with pytest.raises(EngineFault) as caught:
        ask(client(FakeEdge([RuntimeError("no")])))
    assert caught.value.decision is not None
    assert stages(caught.value.decision.checks) == list(SEVEN)


@given(strategies.policies, strategies.facts, strategies.snapshots, strategies.spendings, st.booleans())
def test_a_stage_that_is_added_changes_none_that_was_there(
    policy: Policy, facts: Facts, snapshot: Snapshot, spent: Spent, late: bool
) -> None:
    checks = decide(policy, facts, snapshot, spent).checks[: None if late else 3]
    told = every_stage(checks)
    assert tuple(check for check in told if check.verdict != "skipped") == checks
    assert every_stage(told) == told
    left = {"local", "cloud"}
    for check in told:
        assert set(check.allowed_after) <= left
        left = set(check.allowed_after)


@pytest.mark.parametrize(
    ("audit", "privacy", "name", "flip"),
    [
        (Audit(), "personal", "share", "> 0"),
        (Audit(0.5, ("personal",)), "public", "class", "a class whose users did"),
        (Audit(0.5, ("personal",)), "personal", "certified", "such an answer"),
    ],
)
def test_the_record_says_why_nothing_is_asked_again(audit: Audit, privacy: str, name: str, flip: str) -> None:
    decision = ask(client(FakeEdge(call_tokens(CALL)), policy=replace(POLICY, audit=audit)), privacy=privacy).decision
    assert [(check.name, check.verdict, check.flip) for check in decision.checks if check.stage == "audit"] == [(name, "skipped", flip)]
    assert not decision.audited
