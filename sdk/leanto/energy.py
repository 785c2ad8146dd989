"""Joules, where the machine measures them (RAPL on Linux), and None where it does not. No estimate is passed off as a reading."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

POWERCAP = Path("/sys/class/powercap")


class Meter(Protocol):
    """A running total of energy in joules, or None when it cannot be read."""

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


def _zone(folder: Path) -> _Zone | None:
    """The package-level zone in `folder` ("intel-rapl:0"); its parts ("intel-rapl:0:1") would be counted twice."""
    if folder.name.count(":") != 1:
        return None
    try:
        int((folder / "energy_uj").read_text())
        return _Zone(folder / "energy_uj", int((folder / "max_energy_range_uj").read_text()))
    except (OSError, ValueError):
        return None
