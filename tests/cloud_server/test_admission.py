"""Admission: who runs, who waits, who is refused."""

from __future__ import annotations

import asyncio

import pytest

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
