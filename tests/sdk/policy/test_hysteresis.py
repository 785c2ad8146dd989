"""A signal that wobbles about a limit turns no verdict: it takes hold at the limit, and lets go a band further on."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

import strategies
from leanto import Client, Policy, Snapshot
from leanto.policy import Facts, Spent, decide
from leanto.policy.hysteresis import BATTERY_BAND_PERCENT, limits, strained
from leanto.policy.schema import Budgets

FACTS = Facts("call", "personal", 8, ("call", "text"), 256, cloud_configured=True)
POLICY = Policy(budgets=Budgets(battery_floor_percent=15, max_temperature_c=90, max_cpu_load=2.0, max_memory_pressure=0.2, max_rtt_ms=500))


def held(policy: Policy, readings: list[Snapshot]) -> list[tuple[str, ...]]:
    """The limits that hold after each reading."""
    found: list[tuple[str, ...]] = []
    for reading in readings:
        found.append(strained(policy, replace(reading, strained=found[-1] if found else ())))
    return found


@given(st.lists(st.floats(15.0, 15.0 + BATTERY_BAND_PERCENT, exclude_max=True), min_size=1, max_size=30), st.booleans())
def test_a_charge_inside_the_band_never_changes_the_verdict(charges: list[float], was_low: bool) -> None:
    first = Snapshot(battery_percent=10.0 if was_low else 50.0, plugged=False)
    found = held(POLICY, [first, *(Snapshot(battery_percent=charge, plugged=False) for charge in charges)])
    assert set(found) == {("battery_percent",) if was_low else ()}


@given(st.lists(st.floats(0, 100), min_size=1, max_size=40))
def test_a_verdict_turns_at_most_once_for_each_crossing_of_the_whole_band(charges: list[float]) -> None:
    found = held(POLICY, [Snapshot(battery_percent=charge, plugged=False) for charge in charges])
    turns = sum(now != before for before, now in pairwise([(), *found]))
    outside = [charge < 15 for charge in charges if not 15 <= charge < 15 + BATTERY_BAND_PERCENT]
    assert turns == sum(now != before for before, now in pairwise([False, *outside]))


@pytest.mark.parametrize(
    ("name", "over", "inside", "below"),
    [
        ("temperature_c", 90.5, 86.0, 85.0),
        ("cpu_load", 2.1, 1.7, 1.6),
        ("memory_pressure", 0.21, 0.17, 0.16),
        ("rtt_ms", 501.0, 401.0, 400.0),
    ],
)
def test_each_limit_takes_hold_above_it_and_lets_go_below_its_band(name: str, over: float, inside: float, below: float) -> None:
    readings = [Snapshot(**{name: value}) for value in (inside, over, inside, below, inside)]  # type: ignore[arg-type]
    assert held(POLICY, readings) == [(), (name,), (name,), (), ()]


def test_the_mains_end_a_low_battery_at_once() -> None:
    low = Snapshot(battery_percent=9.0, plugged=False)
    assert held(POLICY, [low, replace(low, plugged=True)]) == [("battery_percent",), ()]


def test_throttling_ends_with_the_band_of_the_trip_point_and_holds_until_then() -> None:
    readings = [Snapshot(throttled=said) for said in (None, True, None, False, None)]
    assert held(POLICY, readings) == [(), ("throttled",), ("throttled",), (), ()]
    check = decide(POLICY, FACTS, Snapshot(strained=("throttled",)), Spent()).checks
    assert [(one.value, one.verdict) for one in check if one.name == "throttled"] == [(True, "veto")]


def test_a_signal_that_is_lost_keeps_its_state_and_decides_nothing_meanwhile() -> None:
    lost = Snapshot(strained=("temperature_c",))
    assert strained(POLICY, lost) == ("temperature_c",)
    assert limits(POLICY, lost)["temperature_c"].holds is None


@given(policy=strategies.policies, snapshot=strategies.snapshots)
def test_a_second_look_at_the_same_device_changes_nothing(policy: Policy, snapshot: Snapshot) -> None:
    once = replace(snapshot, strained=strained(policy, snapshot))
    assert strained(policy, once) == once.strained


def test_a_client_keeps_the_state_from_one_request_to_the_next() -> None:
    charges = iter([14.0, 16.0, 18.5])
    with Client(sources=[lambda: {"battery_percent": next(charges), "plugged": False}]) as client:
        client._async._sensors._max_age_s = 0.0
        checks = [next(c for c in client.explain("x").checks if c.name == "battery_percent") for _ in range(3)]
    assert [(check.value, check.threshold, check.verdict) for check in checks] == [
        (14.0, 15.0, "waived"),
        (16.0, 18.0, "waived"),
        (18.5, 18.0, "pass"),
    ]
