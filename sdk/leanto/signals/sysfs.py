"""What Linux says in its own files, by the kernel's documentation: batteries (ABI sysfs-class-power), thermal zones (sysfs-class-thermal),
memory pressure (PSI) and the memory limit of a control group (cgroup v2). Elsewhere there are none, and nothing is said.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

ROOT = Path("/")
OVERFULL_PERCENT = 110  # a new battery may hold a little more than it was made for
TRIP_BAND = 2000  # thousandths of a degree below a trip point that tells no hysteresis
THROTTLING = ("passive", "hot", "critical")  # trip points from which the kernel slows the machine down, or worse


def power_supply(root: Path = ROOT) -> Mapping[str, Any]:
    """Charge (by energy over all batteries, where they tell it), power source, and watts drawn from the batteries."""
    supplies = list(_folders(root / "sys/class/power_supply"))
    batteries = [supply for supply in supplies if _text(supply / "type") == "Battery" and _text(supply / "scope") != "Device"]
    if not batteries:
        return {}
    found: dict[str, Any] = {}
    if (charge := _charge(batteries)) is not None:
        found["battery_percent"] = charge
    states = {_text(battery / "status") for battery in batteries}
    online = [_number(supply / "online") for supply in supplies if _text(supply / "type") in ("Mains", "USB")]
    known = [value > 0 for value in online if value is not None]
    if known or states & {"Charging", "Discharging"}:
        found["plugged"] = any(known) if known else "Discharging" not in states
    drawn = [_watts(battery) for battery in batteries if _text(battery / "status") == "Discharging"]
    if drawn and None not in drawn:
        found["battery_power_w"] = sum(watts or 0.0 for watts in drawn)
    elif not drawn and states & {"Charging", "Full", "Not charging"}:
        found["battery_power_w"] = 0.0
    return found


def thermal(root: Path = ROOT) -> Mapping[str, Any]:
    """The hottest zone in °C, and whether one is as hot as its first trip point that slows the machine down.

    Between a trip point and its hysteresis below nothing is said of throttling: the last word stands (leanto.policy.hysteresis).
    """
    hottest, throttled = None, False
    below: list[bool] = []
    for zone in _folders(root / "sys/class/thermal"):
        degrees = _number(zone / "temp") if zone.name.startswith("thermal_zone") else None
        if degrees is None or not -60_000 <= degrees <= 200_000:
            continue
        hottest = degrees if hottest is None else max(hottest, degrees)
        trips = list(_trips(zone))
        throttled = throttled or any(degrees >= trip for trip, _ in trips)
        below.extend(degrees < trip - band for trip, band in trips)
    if hottest is None:
        return {}
    told = throttled or (bool(below) and all(below))
    return {"temperature_c": hottest / 1000, **({"throttled": throttled} if told else {})}


def memory(root: Path = ROOT) -> Mapping[str, Any]:
    """Share of the last ten seconds in which something waited for memory; what a control group's limit leaves, where there is one."""
    found: dict[str, Any] = {}
    for line in _text(root / "proc/pressure/memory").splitlines():
        words = dict(word.split("=", 1) for word in line.split()[1:] if "=" in word)
        if line.startswith("some ") and "avg10" in words:
            found["memory_pressure"] = float(words["avg10"]) / 100
    limit, used = _number(root / "sys/fs/cgroup/memory.max"), _number(root / "sys/fs/cgroup/memory.current")
    if limit is not None and used is not None and (free := _free(root)) is not None:
        found["memory_available_bytes"] = int(max(0.0, min(limit - used, free)))
    return found


def _charge(batteries: list[Path]) -> float | None:
    """Percent over all of them: by energy, by charge, or where they tell neither the plain mean."""
    for unit in ("energy", "charge"):
        now, full = ([_number(battery / f"{unit}_{what}") for battery in batteries] for what in ("now", "full"))
        if None not in now and None not in full and sum(value or 0.0 for value in full) > 0:
            percent = 100 * sum(value or 0.0 for value in now) / sum(value or 0.0 for value in full)
            return min(percent, 100.0) if percent < OVERFULL_PERCENT else percent
    said = [value for battery in batteries if (value := _number(battery / "capacity")) is not None]
    return sum(said) / len(said) if said else None


def _watts(battery: Path) -> float | None:
    """µW, or µA times µV; some drivers count what leaves the battery as negative."""
    power = _number(battery / "power_now")
    if power is not None:
        return abs(power) / 1e6
    current, voltage = _number(battery / "current_now"), _number(battery / "voltage_now")
    return None if current is None or voltage is None else abs(current) * voltage / 1e12


def _trips(zone: Path) -> Iterator[tuple[float, float]]:
    """Each trip point, and its hysteresis, in thousandths of a degree."""
    for kind in zone.glob("trip_point_*_type"):
        degrees, band = (_number(zone / kind.name.replace("_type", part)) for part in ("_temp", "_hyst"))
        if _text(kind) in THROTTLING and degrees is not None and degrees > 0:
            yield degrees, band if band and 0 < band < degrees else TRIP_BAND


def _free(root: Path) -> float | None:
    for line in _text(root / "proc/meminfo").splitlines():
        if line.startswith("MemAvailable:"):
            return float(line.split()[1]) * 1024
    return None


def _folders(path: Path) -> list[Path]:
    try:
        return sorted(path.iterdir())
    except OSError:
        return []


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""


def _number(path: Path) -> float | None:
    try:
        return float(int(_text(path)))
    except ValueError:
        return None
