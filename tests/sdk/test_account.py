"""Budgets hold when several requests ask at once: what a call may cost is reserved before it is made, and settled afterwards."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from asking import BETTER, CALL, POLICY, client
from fakes import UNSURE, FakeCall, FakeCloud, FakeEdge, call_tokens, chunks, fault
from leanto import BudgetSpent, CloudUnavailable, Policy, Reply
from leanto.ledger import Ledger, Spending
from leanto.policy.logged import read_log
from leanto.policy.replay import Replayer
from leanto.policy.schema import Budgets, CloudTarget, Privacy
from leanto.remote import RemoteChunk, RemoteRequest

PRICED = CloudTarget("node:1", usd_per_million_answer_tokens=1e6)  # a dollar a token


def limited(**limits: Any) -> Policy:
    return replace(POLICY, budgets=Budgets(**limits), cloud=PRICED)


class Held(FakeCloud):
    """Answers once the gate is open."""

    gate: asyncio.Event

    def generate(self, request: RemoteRequest) -> FakeCall:
        call = super().generate(request)
        return HeldCall(call.script, gate=self.gate)


@dataclass
class HeldCall(FakeCall):
    gate: asyncio.Event = field(default_factory=asyncio.Event)

    async def __anext__(self) -> RemoteChunk:
        await self.gate.wait()
        return await super().__anext__()


def asked_at_once(policy: Policy, times: int, calls: int, log: Path | None = None) -> list[Reply]:
    """No call ends before all that get none are answered."""
    cloud = Held(chunks(BETTER))

    async def run() -> list[Reply]:
        cloud.gate = asyncio.Event()
        async with client(FakeEdge(call_tokens(CALL, UNSURE)), cloud, policy, ledger=Ledger(), log=log) as at:
            asking = [asyncio.create_task(at.ask("when do I wake", max_tokens=100)) for _ in range(times)]
            async with asyncio.timeout(20):
                while sum(task.done() for task in asking) < times - calls:
                    await asyncio.wait([task for task in asking if not task.done()], return_when=asyncio.FIRST_COMPLETED)
            cloud.gate.set()
            return await asyncio.gather(*asking)

    replies = asyncio.run(run())
    assert len(cloud.requests) == calls
    return replies


@pytest.mark.parametrize(
    ("limits", "calls", "label"),
    [
        ({"cloud_calls_per_day": 1}, 1, "calls-spent"),
        ({"cloud_calls_per_day": 3}, 3, "calls-spent"),
        ({"cloud_usd_per_day": 150.0}, 2, "money-spent"),  # each may cost up to 100
        ({"cloud_bytes_per_day": 2000}, 2, "egress-spent"),
        ({"cloud_bytes_per_session": 2000}, 2, "egress-spent"),
    ],
)
def test_requests_at_once_make_no_more_calls_than_are_left(limits: dict[str, Any], calls: int, label: str) -> None:
    replies = asked_at_once(limited(**limits), 10, calls)
    routes = Counter((reply.route, label in reply.decision.labels) for reply in replies)
    assert routes == {("local→cloud", False): calls, ("local", True): 10 - calls}


def test_the_record_says_which_budget_was_overtaken_and_a_replay_agrees(tmp_path: Path) -> None:
    asked_at_once(limited(cloud_calls_per_day=1), 4, 1, tmp_path / "log")
    log, _ = read_log(tmp_path / "log")
    overtaken = [line for line in log if line.route == "local"]
    assert [line.spent.last_day.calls for line in overtaken] == [1, 1, 1]
    assert {Replayer(limited(cloud_calls_per_day=1)).course(line).route for line in overtaken} == {"local"}
    assert {Replayer(limited(cloud_calls_per_day=9)).course(line).route for line in overtaken} == {"local→cloud"}


def test_where_only_the_cloud_may_answer_an_overtaken_budget_is_an_error_with_its_record() -> None:
    cloudy = replace(limited(cloud_calls_per_day=1), privacy=Privacy("public", {"public": ("cloud",), "secret": ("local",)}))

    class Stale(Ledger):
        """Another process makes the call right after the look."""

        def last_day(self) -> Spending:
            found = super().last_day()
            self.add(calls=1)
            return found

    cloud = FakeCloud(chunks(BETTER))
    with pytest.raises(BudgetSpent) as caught:
        asyncio.run(client(FakeEdge([]), cloud, cloudy, ledger=Stale()).ask("when do I wake"))
    assert cloud.requests == []
    assert caught.value.decision is not None
    last = next(check for check in caught.value.decision.checks if check.stage == "offline")
    assert (last.stage, last.name, last.value, last.threshold, last.verdict) == ("offline", "calls_last_day", 1, 1, "veto")


def test_what_was_reserved_is_settled_at_what_it_came_to() -> None:
    ledger = Ledger()
    at = client(FakeEdge(call_tokens(CALL, UNSURE)), FakeCloud(chunks(BETTER)), limited(cloud_usd_per_day=1e6), ledger=ledger)
    reply = asyncio.run(at.ask("when do I wake"))
    assert ledger.last_day() == Spending(1, 100, float(len(chunks(BETTER))))
    assert (reply.decision.bytes_sent, reply.decision.usd) == (100, len(chunks(BETTER)))
    assert at._account.bytes_sent == 100


def test_a_call_that_fails_gives_back_what_it_did_not_cost() -> None:
    ledger = Ledger()
    at = client(FakeEdge(call_tokens(CALL, UNSURE)), FakeCloud([fault(CloudUnavailable)]), limited(cloud_usd_per_day=1e6), ledger=ledger)
    asyncio.run(at.ask("when do I wake"))
    assert ledger.last_day() == Spending(1, 100, 0.0)


def test_a_ledger_that_cannot_be_written_closes_the_cloud_only_where_a_budget_hangs_on_it() -> None:
    for policy, route in ((limited(cloud_calls_per_day=5), "local"), (limited(), "local→cloud")):
        ledger = Ledger()
        at = client(FakeEdge(call_tokens(CALL, UNSURE)), FakeCloud(chunks(BETTER)), policy, ledger=ledger)
        ledger._database.execute("PRAGMA query_only = 1")  # may be read, and not written
        assert asyncio.run(at.ask("when do I wake")).route == route
