"""Joules: by the processor's own counters (RAPL on Linux), else by what leaves the battery, else by an estimate that is called one: joules
a token, where the machine once had a meter (`token_energy`), else CPU seconds.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
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


@dataclass(slots=True)
class _Zone:
    counter: Path
    range_uj: int
    last_uj: int


class Rapl:
    """The packages' energy counters. They count the whole processor, every process included, and each wraps around for itself."""

    source: EnergySource = "rapl"

    def __init__(self, root: Path = POWERCAP) -> None:
        self._zones = tuple(filter(None, map(_zone, sorted(root.glob("*-rapl:[0-9]*")))))
        self._total_uj = sum(zone.last_uj for zone in self._zones)

    @property
    def readable(self) -> bool:
        """Whether there is at least one counter this user may read."""
        return bool(self._zones) and self.read_j() is not None

    def read_j(self) -> float | None:
        """Joules on from what the counters showed at first; None when there are none or they are not readable."""
        try:
            now_uj = [int(zone.counter.read_text()) for zone in self._zones]
        except (OSError, ValueError):
            return None
        if not self._zones or any(not 0 <= now <= zone.range_uj for zone, now in zip(self._zones, now_uj, strict=True)):
            return None
        for zone, now in zip(self._zones, now_uj, strict=True):
            self._total_uj += now - zone.last_uj + (zone.range_uj if now < zone.last_uj else 0)
            zone.last_uj = now
        return self._total_uj / 1e6

    def since_j(self, start_j: float | None) -> float | None:
        """Joules since `start_j`, allowing for one wrap of each counter between two readings."""
        end_j = self.read_j()
        return None if start_j is None or end_j is None else end_j - start_j


class Battery:
    """Watts drawn from the battery over time. They feed the whole device, screen included; None while it is plugged in."""

    source: EnergySource = "battery"

    def __init__(self, root: Path = ROOT, *, clock: Clock | None = None) -> None:
        self._root = root
        self._clock = clock or Clock()
        self._total_j = 0.0
        self._last: tuple[float, float | None] | None = None  # when, watts
        self._asked_at = -math.inf

    @property
    def readable(self) -> bool:
        """Whether the battery is being drawn from, and says how fast."""
        return bool(self._watts())

    def read_j(self) -> float | None:
        """Joules since the first reading, the power between two of them taken as their mean."""
        now = self._clock.monotonic()
        before = self._last
        if before is not None and 0.0 <= now - self._asked_at < BATTERY_EVERY_S:
            watts = before[1]
        else:
            watts, self._asked_at = self._watts(), now
        self._last = (now, watts)
        if not watts:
            return None
        if before is not None and before[1]:
            self._total_j += (before[1] + watts) / 2 * (now - before[0])
        return self._total_j

    def since_j(self, start_j: float | None) -> float | None:
        """Joules since `start_j`; None if it is plugged in by now."""
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


class Measurement:
    """Of one request, by several meters at once: a laptop may be plugged in, or a counter lost, before it ends."""

    def __init__(self, meters: Sequence[Meter]) -> None:
        self._begun = [(meter, meter.read_j()) for meter in meters]

    def stop(self) -> tuple[float | None, str]:
        """Joules since the beginning by the first meter that has them, and its source; (None, "") where none has."""
        for meter, start_j in self._begun:
            if (spent_j := meter.since_j(start_j)) is not None:
                return spent_j, meter.source
        return None, ""


def meters(root: Path = ROOT, *, clock: Clock | None = None) -> tuple[Meter, ...]:
    """Those of this machine, the best first."""
    return Rapl(root / POWERCAP.relative_to("/")), Battery(root, clock=clock), Estimate()


def best_meter(root: Path = ROOT) -> Meter:
    """The first of them that can be read now."""
    return next(meter for meter in meters(root) if meter.read_j() is not None)


def _zone(folder: Path) -> _Zone | None:
    """The package-level zone in `folder` ("intel-rapl:0"). Its parts ("intel-rapl:0:1") would be counted twice, and so would all of
    them in the zone of the whole platform ("psys")."""
    if folder.name.count(":") != 1:
        return None
    try:
        if (folder / "name").exists() and (folder / "name").read_text().startswith("psys"):
            return None
        return _Zone(folder / "energy_uj", int((folder / "max_energy_range_uj").read_text()), int((folder / "energy_uj").read_text()))
    except (OSError, ValueError):
        return None
