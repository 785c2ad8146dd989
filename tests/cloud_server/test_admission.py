"""Admission: who runs, who waits, who is refused."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leanto_cloud.admission import Admission
from leanto_cloud.errors import Refused
from leanto_wire.status import Refusal


async def hold(admission: Admission, running: list[str], name: str, gate: asyncio.Event) -> None:
    async with admission.admit():
        running.append(name)
        await gate.wait()


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def refusal_of(admission: Admission) -> Refusal:
    with pytest.raises(Refused) as caught:
        await hold(admission, [], "refused", asyncio.Event())
    return caught.value.refusal


def test_those_that_do_not_run_wait_in_order_and_the_rest_is_refused() -> None:
    async def run() -> None:
        admission, running, gate = Admission(running=1, waiting=2), list[str](), asyncio.Event()
        tasks = [asyncio.create_task(hold(admission, running, name, gate)) for name in "abc"]
        await settle()
        assert running == ["a"]
        assert await refusal_of(admission) is Refusal.BUSY
        gate.set()
        await asyncio.gather(*tasks)
        assert running == ["a", "b", "c"]
        assert admission.present == 0

    asyncio.run(run())


def test_one_that_gives_up_waiting_leaves_its_place() -> None:
    async def run() -> None:
        admission, gate = Admission(running=1, waiting=1), asyncio.Event()
        first = asyncio.create_task(hold(admission, [], "a", gate))
        second = asyncio.create_task(hold(admission, [], "b", gate))
        await settle()
        second.cancel()
        await settle()
        assert admission.present == 1
        gate.set()
        await first

    asyncio.run(run())


def test_draining_admits_no_more_and_lets_the_others_end() -> None:
    async def run() -> None:
        admission, gate = Admission(running=1, waiting=1), asyncio.Event()
        first = asyncio.create_task(hold(admission, [], "a", gate))
        await settle()
        admission.drain()
        assert await refusal_of(admission) is Refusal.DRAINING
        gate.set()
        await first

    asyncio.run(run())


def admission_of(**more: int) -> Admission:
    return Admission(**({"running": 1, "waiting": 4} | more))


async def order_of(admission: Admission, arrivals: str) -> tuple[str, str]:
    """Who ran, in order, and who was refused. The first holds its place until all have arrived; a letter is a tenant."""
    ran, refused, gate = list[str](), list[str](), asyncio.Event()

    async def one(tenant: str) -> None:
        try:
            async with admission.admit(tenant):
                ran.append(tenant)
                await gate.wait()
        except Refused:
            refused.append(tenant)

    tasks = []
    for tenant in arrivals:
        tasks.append(asyncio.create_task(one(tenant)))
        await settle()
    gate.set()
    await asyncio.gather(*tasks)
    assert admission.present == 0
    return "".join(ran), "".join(refused)


@pytest.mark.parametrize(
    ("arrivals", "ran", "refused"),
    [
        ("aaaab", "aabaa", ""),  # tenants take turns
        ("aabbcc", "aabcb", "c"),  # a line is not made shorter for one that would then have as long a line itself
        ("aaaaab", "aabaa", "a"),  # a full line makes room for another tenant
        ("aaaaaa", "aaaaa", "a"),  # but not for the same one
    ],
)
def test_tenants_take_turns(arrivals: str, ran: str, refused: str) -> None:
    got = asyncio.run(order_of(admission_of(), arrivals))
    assert got == (ran, refused)


def test_a_tenant_runs_no_more_at_once_than_its_share() -> None:
    async def run() -> None:
        admission, running, gate = admission_of(running=3, waiting=9, per_tenant=2), list[str](), asyncio.Event()

        async def one(tenant: str) -> None:
            async with admission.admit(tenant):
                running.append(tenant)
                await gate.wait()

        tasks = [asyncio.create_task(one(tenant)) for tenant in "aaaab"]
        await settle()
        assert sorted(running) == ["a", "a", "b"]
        gate.set()
        await asyncio.gather(*tasks)

    asyncio.run(run())


def test_whoever_waits_too_long_is_sent_away_and_leaves_its_place() -> None:
    async def run() -> None:
        admission, gate = Admission(running=1, waiting=1, wait_s=0.01), asyncio.Event()
        first = asyncio.create_task(hold(admission, [], "a", gate))
        await settle()
        with pytest.raises(TimeoutError):
            await hold(admission, [], "b", gate)
        assert admission.present == 1
        gate.set()
        await first

    asyncio.run(run())


def test_one_that_gives_up_just_as_its_turn_comes_passes_it_on() -> None:
    async def run() -> None:
        admission, running, gate = admission_of(), list[str](), asyncio.Event()

        async def first() -> None:
            await hold(admission, running, "first", gate)
            second.cancel()  # in the same step in which it was given its place

        ending = asyncio.create_task(first())
        await settle()
        second = asyncio.create_task(hold(admission, running, "second", asyncio.Event()))
        third = asyncio.create_task(hold(admission, running, "third", asyncio.Event()))
        await settle()
        gate.set()
        await ending
        await settle()
        assert running == ["first", "third"]
        third.cancel()
        await settle()
        assert admission.present == 0

    asyncio.run(run())


def test_one_that_gives_up_just_before_its_turn_comes_is_passed_over() -> None:
    async def run() -> None:
        admission, running, gate = admission_of(), list[str](), asyncio.Event()

        async def first() -> None:
            async with admission.admit():
                await gate.wait()
                second.cancel()  # the place is free in the same step

        ending = asyncio.create_task(first())
        await settle()
        second = asyncio.create_task(hold(admission, running, "second", gate))
        third = asyncio.create_task(hold(admission, running, "third", gate))
        await settle()
        gate.set()
        await asyncio.gather(ending, third)
        assert running == ["third"]
        assert admission.present == 0

    asyncio.run(run())


def test_it_is_worn_after_so_many() -> None:
    async def run() -> None:
        admission, gate = admission_of(worn_after=2), asyncio.Event()
        gate.set()
        await hold(admission, [], "a", gate)
        assert not admission.worn.is_set()
        await hold(admission, [], "b", gate)
        assert admission.worn.is_set()

    asyncio.run(run())


@settings(max_examples=200)
@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["finish", "cancel"])), max_size=30), st.integers(1, 3), st.integers(1, 3)
)
def test_whatever_comes_and_goes_no_place_is_lost(story: list[tuple[str, str]], running: int, per_tenant: int) -> None:
    async def run() -> None:
        admission, busy, most = admission_of(running=running, per_tenant=per_tenant), Counter[str](), 0
        gates, tasks = list[asyncio.Event](), list[asyncio.Task[None]]()

        async def one(tenant: str, gate: asyncio.Event) -> None:
            nonlocal most
            with suppress(Refused):
                async with admission.admit(tenant):
                    busy[tenant] += 1
                    most = max(most, busy.total())
                    assert busy[tenant] <= per_tenant
                    try:
                        await gate.wait()
                    finally:
                        busy[tenant] -= 1

        for tenant, what in story:
            gates.append(asyncio.Event())
            tasks.append(asyncio.create_task(one(tenant, gates[-1])))
            await asyncio.sleep(0)
            if len(tasks) > 2:
                gates[-3].set() if what == "finish" else tasks[-3].cancel()
        for gate in gates:
            gate.set()
        done = await asyncio.gather(*tasks, return_exceptions=True)
        assert [error for error in done if isinstance(error, Exception)] == []
        assert (admission.present, busy.total()) == (0, 0)
        assert most <= running

    asyncio.run(run())
