from __future__ import annotations

import contextlib
import math
import threading
import time
from types import SimpleNamespace
from typing import Any, Literal

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes import FakeClock
from leanto import Policy, SignalError, Snapshot, signals, simulate
from leanto.policy import Facts, Spent, decide
from leanto.policy.schema import Budgets
from leanto.signals import DEVICE, Sensors, device


def read(*sources: signals.Source) -> Snapshot:
    return Sensors(sources, clock=FakeClock().clock).read()


def test_the_real_device_can_always_be_read() -> None:
    snapshot = Sensors(DEVICE).read()
    assert snapshot.memory_available_bytes is None or snapshot.memory_available_bytes > 0
    assert snapshot.link in ("up", "down", "unknown")


def test_a_source_that_fails_leaves_its_signals_unknown_and_the_others_alone() -> None:
    def broken() -> dict[str, Any]:
        raise OSError("no such sensor")

    assert read(lambda: {"cpu_load": 0.5}, broken) == Snapshot(cpu_load=0.5, taken_at=1000.0)


@pytest.mark.parametrize(
    "reading",
    [{"battery_percent": 250}, {"battery_percent": math.nan}, {"plugged": "yes"}, {"cpu_load": -1}, {"link": "maybe"}, {"nonsense": 1}],
)
def test_an_impossible_reading_counts_as_unknown(reading: dict[str, Any]) -> None:
    assert read(lambda: reading) == Snapshot(taken_at=1000.0)


def test_a_source_that_hangs_is_left_behind_and_not_asked_again_until_it_returns() -> None:
    released, asked = threading.Event(), []

    def hangs() -> dict[str, Any]:
        asked.append(1)
        released.wait(30)
        return {"temperature_c": 50.0}

    sensors = Sensors([lambda: {"cpu_load": 0.5}, hangs, lambda: {"link": "up"}], max_age_s=0.0)
    began = time.monotonic()
    assert (sensors.read().cpu_load, sensors.read().link, sensors.read().temperature_c) == (0.5, "up", None)
    assert time.monotonic() - began < 5
    assert len(asked) == 1
    released.set()
    for thread in sensors._hanging.values():
        thread.join()
    assert sensors.read().temperature_c == 50.0


def test_later_sources_override_earlier_ones() -> None:
    assert read(lambda: {"battery_percent": 80.0}, simulate("battery=9%")).battery_percent == 9.0


def test_a_snapshot_is_kept_for_a_second_and_then_taken_again() -> None:
    clock, counts = FakeClock(), iter(range(10))
    sensors = Sensors([lambda: {"cpu_load": next(counts)}], clock=clock.clock)
    assert [sensors.read().cpu_load, sensors.read().cpu_load] == [0, 0]
    clock.advance(1.5)
    assert sensors.read().cpu_load == 1
    clock.advance(-100)  # a clock that jumps back must not freeze the reading
    assert sensors.read().cpu_load == 2


def test_a_rehearsal_reads_every_signal() -> None:
    snapshot = read(
        simulate("battery=9%, plugged=yes,load=1.7,memory=300M,temperature=85,link=down,metered=yes,throttled=no,pressure=20%,rtt=300")
    )
    assert snapshot == Snapshot(9.0, True, 1.7, 300 * 2**20, 85.0, "down", 1000.0, None, 0.2, False, True, 300.0)


def test_a_rehearsed_battery_is_unplugged_unless_said_otherwise() -> None:
    assert read(simulate("battery=9")).plugged is False
    assert read(simulate("link=up")).plugged is None


@pytest.mark.parametrize(
    ("percent", "expected"), [(0, 0.0), (100, 100.0), (None, None), (250, None), (-1, None), (math.nan, None), (math.inf, None)]
)
def test_a_battery_that_reports_nonsense_is_unknown_and_an_empty_one_is_empty(
    monkeypatch: pytest.MonkeyPatch, percent: float | None, expected: float | None
) -> None:
    monkeypatch.setattr(psutil, "sensors_battery", lambda: SimpleNamespace(percent=percent, power_plugged=False), raising=False)
    assert read(device.battery) == Snapshot(battery_percent=expected, plugged=False, taken_at=1000.0)


@pytest.mark.parametrize(("percent", "outcome"), [(0, "veto"), (None, "unknown"), (250, "unknown"), (-1, "unknown"), (math.nan, "unknown")])
@pytest.mark.parametrize("unknown", ["pass", "fail"])
def test_what_a_broken_battery_means_is_recorded(
    monkeypatch: pytest.MonkeyPatch, percent: float | None, outcome: str, unknown: Literal["pass", "fail"]
) -> None:
    monkeypatch.setattr(psutil, "sensors_battery", lambda: SimpleNamespace(percent=percent, power_plugged=False), raising=False)
    facts = Facts("text", "personal", 8, ("call", "text"), 256, cloud_configured=True)
    budgets = Budgets(unknown_signals=unknown)
    checks = decide(Policy(budgets=budgets), facts, read(device.battery, lambda: {"temperature_c": 40.0}), Spent()).checks
    expected = "veto" if unknown == "fail" else outcome
    assert [check.verdict for check in checks if check.name == "battery_percent"] == [expected]


def test_the_load_is_unknown_while_windows_has_only_begun_to_count(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = FakeClock()
    monkeypatch.setattr(psutil, "getloadavg", lambda: (0.0, 0.0, 0.0))
    load, elsewhere = device.Load(clock.clock, "win32"), device.Load(clock.clock, "linux")
    assert (load(), elsewhere()) == ({}, {"cpu_load": 0.0})
    clock.advance(5.0)
    assert load() == {}
    clock.advance(1.0)
    assert load() == {"cpu_load": 0.0}


@pytest.mark.parametrize(
    "text", ["batery=9%", "battery", "=9", "battery=lots", "battery=900", "plugged=maybe", "link=sideways", "load=nan"]
)
def test_a_rehearsal_that_cannot_be_read_says_what_is_allowed(text: str) -> None:
    with pytest.raises(SignalError, match=r"expected|one of: battery, plugged, load, memory, temperature, link") as caught:
        simulate(text)
    assert caught.value.exit_code == 2


@given(st.text(max_size=30))
def test_any_rehearsal_is_read_or_refused_with_a_signal_error(text: str) -> None:
    with contextlib.suppress(SignalError):
        read(simulate(text))


def test_the_battery_of_a_laptop_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "sensors_battery", lambda: SimpleNamespace(percent=41, power_plugged=False), raising=False)
    assert read(device.battery) == Snapshot(battery_percent=41.0, plugged=False, taken_at=1000.0)


def test_the_hottest_sensor_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {"cpu": [SimpleNamespace(current=40.0), SimpleNamespace(current=71.0)], "disk": [SimpleNamespace(current=None)]}
    monkeypatch.setattr(psutil, "sensors_temperatures", lambda: found, raising=False)
    assert read(device.temperature).temperature_c == 71.0


@pytest.mark.parametrize(
    ("interfaces", "expected"), [({"lo": True}, "unknown"), ({"lo": True, "eth0": False}, "down"), ({"eth0": False, "wlan0": True}, "up")]
)
def test_the_link_is_up_when_something_other_than_loopback_is(
    monkeypatch: pytest.MonkeyPatch, interfaces: dict[str, bool], expected: str
) -> None:
    monkeypatch.setattr(psutil, "net_if_stats", lambda: {name: SimpleNamespace(isup=up) for name, up in interfaces.items()})
    assert read(device.link).link == expected


@pytest.mark.parametrize(("said", "metered"), [("yes", True), ("no", False), ("maybe", None), ("", None)])
def test_the_user_may_say_that_bytes_cost_money(monkeypatch: pytest.MonkeyPatch, said: str, metered: bool | None) -> None:
    monkeypatch.setenv("LEANTO_METERED", said)
    assert read(device.declared).metered is metered
