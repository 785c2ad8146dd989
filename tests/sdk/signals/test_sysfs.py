"""Linux's own files, as machines of several kinds have them: each tree is a text file of `path = content` lines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes import FakeClock
from leanto.signals import Sensors, Snapshot
from leanto.signals.energy import Battery, Estimate, Measurement, best_meter, meters
from leanto.signals.sysfs import memory, power_supply, thermal

TREES = Path(__file__).parent / "sysfs"


def plant(tree: str, root: Path) -> Path:
    for line in tree.splitlines():
        if line.strip() and not line.startswith("#"):
            name, _, content = line.partition(" = ")
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content.replace("\\n", "\n") + "\n")
    return root


def machine(name: str, root: Path) -> Path:
    return plant((TREES / f"{name}.txt").read_text(), root)


def seen(root: Path) -> Snapshot:
    sources = [lambda: power_supply(root), lambda: thermal(root), lambda: memory(root)]
    return Sensors(sources, clock=FakeClock().clock).read()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "laptop-on-battery",
            {"battery_percent": 70.0, "plugged": False, "battery_power_w": 6.3, "temperature_c": 61.0, "throttled": False},
        ),
        ("laptop-charging", {"battery_percent": 40.0, "plugged": True, "battery_power_w": 0.0}),
        ("desktop", {"temperature_c": 27.8}),
        ("two-batteries", {"battery_percent": pytest.approx(100 / 3), "plugged": False, "battery_power_w": 6.0}),
        ("broken-battery", {}),
        ("server", {"memory_pressure": 0.125, "memory_available_bytes": 2**30}),
        ("arm-board", {"temperature_c": 85.5, "throttled": True}),
    ],
)
def test_every_kind_of_machine_says_what_it_can(name: str, expected: dict[str, Any], tmp_path: Path) -> None:
    assert seen(machine(name, tmp_path)) == Snapshot(taken_at=1000.0, **expected)


@given(
    content=st.sampled_from(["", "0", "-1", "250", "NaN", "1e99", "9" * 40, "\x00", "Discharging", "Battery", "some avg10=lots"]),
    at=st.integers(0, 60),
    name=st.sampled_from(sorted(path.stem for path in TREES.glob("*.txt"))),
)
def test_one_file_that_holds_nonsense_costs_at_most_its_own_signals(
    content: str, at: int, name: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = machine(name, tmp_path_factory.mktemp("root"))
    files = sorted(path for path in root.rglob("*") if path.is_file())
    files[at % len(files)].write_text(content)
    found = seen(root)
    assert found.battery_percent is None or 0 <= found.battery_percent <= 100
    assert found.battery_power_w is None or found.battery_power_w >= 0


def test_energy_comes_from_the_best_source_that_there_is(tmp_path: Path) -> None:
    kinds = {
        name: best_meter(machine(name, tmp_path / name)).source for name in ("server", "laptop-on-battery", "laptop-charging", "desktop")
    }
    assert kinds == {"server": "rapl", "laptop-on-battery": "battery", "laptop-charging": "estimate", "desktop": "estimate"}
    (tmp_path / "server/sys/class/powercap/intel-rapl:0/energy_uj").unlink()
    (tmp_path / "server/sys/class/powercap/intel-rapl:1/energy_uj").write_text("")  # as one that this user may not read
    assert best_meter(tmp_path / "server").source == "estimate"


def test_the_battery_is_metered_over_time_and_not_while_it_charges(tmp_path: Path) -> None:
    root, clock = machine("laptop-on-battery", tmp_path), FakeClock()
    meter = Battery(root, clock=clock.clock)
    start_j = meter.read_j()
    clock.advance(2.0)
    assert meter.since_j(start_j) == pytest.approx(12.6)
    (root / "sys/class/power_supply/BAT0/status").write_text("Charging")
    clock.advance(2.0)
    assert meter.since_j(start_j) is None


def test_a_clock_that_jumps_back_gives_no_negative_energy(tmp_path: Path) -> None:
    clock = FakeClock()
    meter = Battery(machine("laptop-on-battery", tmp_path), clock=clock.clock)
    start_j = meter.read_j()
    clock.advance(-3600.0)
    spent = meter.since_j(start_j)
    assert spent is None or spent >= 0


def test_the_estimate_counts_the_processors_seconds() -> None:
    seconds = iter([10.0, 10.5])
    meter = Estimate(4.0, cpu_s=lambda: next(seconds))
    assert meter.since_j(meter.read_j()) == 2.0


def test_a_laptop_that_is_plugged_in_during_a_request_falls_back_to_the_estimate(tmp_path: Path) -> None:
    root, clock = machine("laptop-on-battery", tmp_path), FakeClock()
    request = Measurement(meters(root, clock=clock.clock))
    clock.advance(2.0)
    assert request.stop() == (pytest.approx(12.6), "battery")
    request = Measurement(meters(root, clock=clock.clock))
    (root / "sys/class/power_supply/BAT0/status").write_text("Charging")
    clock.advance(2.0)
    assert request.stop()[1] == "estimate"


def test_the_mean_of_two_readings_is_what_was_drawn_between_them(tmp_path: Path) -> None:
    root, clock = machine("laptop-on-battery", tmp_path), FakeClock()
    meter = Battery(root, clock=clock.clock)
    start_j = meter.read_j()
    (root / "sys/class/power_supply/BAT0/power_now").write_text("12600000")
    clock.advance(2.0)
    assert meter.since_j(start_j) == pytest.approx(18.9)


@pytest.mark.parametrize(("degrees", "band", "throttled"), [(85.0, 5, True), (84.9, 5, None), (79.9, 5, False), (82.9, 0, False)])
def test_a_part_that_has_cooled_a_little_is_not_said_to_be_cool(degrees: float, band: int, throttled: bool | None, tmp_path: Path) -> None:
    zone = "sys/class/thermal/thermal_zone0"
    tree = f"{zone}/temp = {degrees * 1000:.0f}\n{zone}/trip_point_0_type = passive\n{zone}/trip_point_0_temp = 85000\n"
    assert seen(plant(f"{tree}{zone}/trip_point_0_hyst = {band * 1000}", tmp_path)).throttled is throttled


def test_a_battery_that_holds_a_little_more_than_it_was_made_for_is_full(tmp_path: Path) -> None:
    root = machine("laptop-on-battery", tmp_path)
    (root / "sys/class/power_supply/BAT0/energy_now").write_text("50400000")
    assert seen(root).battery_percent == 100.0
    (root / "sys/class/power_supply/BAT0/energy_now").write_text("99400000")
    assert seen(root).battery_percent is None
