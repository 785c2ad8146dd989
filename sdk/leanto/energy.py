"""Joules: by the processor's own counters (RAPL on Linux), else by what leaves the battery, else by an estimate that is called one."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from leanto.clock import Clock
from leanto.signals.sysfs import ROOT, power_supply

POWERCAP = Path("/sys/class/powercap")
JOULES_PER_CPU_SECOND = (
    4.0  # of one busy core: 15 W over 4 cores of a thin laptop, 225 W over 64 of a server, each with its share of the rest
)
BATTERY_EVERY_S = 0.5  # the fuel gauges of laptops move about once a second

EnergySource = Literal["rapl", "battery", "estimate"]


class Meter(Protocol):
    """A running total of energy in joules, or None when it cannot be read."""

    @property
    def source(self) -> EnergySource:
        """Where the joules come from."""
        ...

    def read_j(self) -> float | None:
        """The total now."""
        ...

    def since_j(self, start_j: float | None) -> float | None:
        """Joules since an earlier `read_j()`."""
        ...


@dataclass(frozen=True, slots=True)
class _Zone:
    counter: Path
    range_uj: int


class Rapl:
    """The packages' energy counters. They count the whole processor, every process included, and wrap around."""

    source: EnergySource = "rapl"

    def __init__(self, root: Path = POWERCAP) -> None:
        self._zones = tuple(filter(None, map(_zone, sorted(root.glob("*-rapl:[0-9]*")))))

    @property
    def readable(self) -> bool:
        """Whether there is at least one counter this user may read."""
        return bool(self._zones) and self.read_j() is not None

    def read_j(self) -> float | None:
        """Sum of the counters in joules; None when there are none or they are not readable."""
        if not self._zones:
            return None
        try:
            return sum(int(zone.counter.read_text()) for zone in self._zones) / 1e6
        except (OSError, ValueError):
            return None

    def since_j(self, start_j: float | None) -> float | None:
        """Joules since `start_j`, allowing for one wrap of one counter."""
        end_j = self.read_j()
        if start_j is None or end_j is None:
            return None
        spent = end_j - start_j
        return spent if spent >= 0 else spent + max(zone.range_uj for zone in self._zones) / 1e6


class Battery:
    """Watts drawn from the battery over time. They feed the whole device, screen included; None while it is plugged in."""

    source: EnergySource = "battery"

    def __init__(self, root: Path = ROOT, *, clock: Clock | None = None) -> None:
        self._root = root
        self._clock = clock or Clock()
        self._total_j = 0.0
        self._last: tuple[float, float] | None = None  # when, watts

    @property
    def readable(self) -> bool:
        """Whether the battery is being drawn from, and says how fast."""
        return bool(self._watts())

    def read_j(self) -> float | None:
        """Joules since the first reading, the power between two of them taken as the later one's."""
        now = self._clock.monotonic()
        watts = self._last[1] if self._last and now - self._last[0] < BATTERY_EVERY_S else self._watts()
        if not watts:
            self._last = None
            return None
        if self._last is not None:
            self._total_j += watts * (now - self._last[0])
        self._last = (now, watts)
        return self._total_j

    def since_j(self, start_j: float | None) -> float | None:
        """Joules since `start_j`; None if it was plugged in meanwhile."""
        end_j = self.read_j()
        return None if start_j is None or end_j is None or end_j < start_j else end_j - start_j

    def _watts(self) -> float | None:
        watts: float | None = power_supply(self._root).get("battery_power_w")
        return watts


class Estimate:
    """CPU seconds of this process, at so many joules each. An estimate for comparing routes, not a reading."""

    source: EnergySource = "estimate"

    def __init__(self, joules_per_cpu_s: float = JOULES_PER_CPU_SECOND, *, cpu_s: Callable[[], float] = time.process_time) -> None:
        self._joules_per_cpu_s = joules_per_cpu_s
        self._cpu_s = cpu_s

    def read_j(self) -> float | None:
        """Joules of this process so far."""
        return self._joules_per_cpu_s * self._cpu_s()

    def since_j(self, start_j: float | None) -> float | None:
        """Joules since `start_j`."""
        return None if start_j is None else max(0.0, self._joules_per_cpu_s * self._cpu_s() - start_j)


def best_meter(root: Path = ROOT) -> Meter:
    """The first of the three that this machine has."""
    rapl, battery = Rapl(root / POWERCAP.relative_to("/")), Battery(root)
    return rapl if rapl.readable else battery if battery.readable else Estimate()


def _zone(folder: Path) -> _Zone | None:
    """The package-level zone in `folder` ("intel-rapl:0"); its parts ("intel-rapl:0:1") would be counted twice."""
    if folder.name.count(":") != 1:
        return None
    try:
        int((folder / "energy_uj").read_text())
        return _Zone(folder / "energy_uj", int((folder / "max_energy_range_uj").read_text()))
    except (OSError, ValueError):
        return None
