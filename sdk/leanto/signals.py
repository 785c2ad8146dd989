"""What the device says right now, as one frozen Snapshot. Every source is injectable, and one that fails means "unknown".

Knows nothing of policies: it reports, it never judges.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from leanto.clock import Clock
from leanto.errors import SignalError

Link = Literal["up", "down", "unknown"]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The device at one instant. None (and link "unknown") means that no source could tell.

    `cpu_load` is the one-minute run queue per logical CPU (1.0 = fully busy); `temperature_c` is the hottest sensor.
    """

    battery_percent: float | None = None
    plugged: bool | None = None
    cpu_load: float | None = None
    memory_available_bytes: int | None = None
    temperature_c: float | None = None
    link: Link = "unknown"
    taken_at: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, for the decision record."""
        return asdict(self)


Source = Callable[[], Mapping[str, Any]]  # reads some signals; returns only the ones it knows, by their Snapshot names


class Sensors:
    """Asks each source in turn, later ones overriding earlier ones, and keeps the answer for `max_age_s` seconds."""

    def __init__(self, sources: Iterable[Source], *, clock: Clock | None = None, max_age_s: float = 1.0) -> None:
        self._sources = tuple(sources)
        self._clock = clock or Clock()
        self._max_age_s = max_age_s
        self._last: tuple[float, Snapshot] | None = None

    def read(self) -> Snapshot:
        """The current Snapshot. Never raises: a source that fails, or says something impossible, leaves its signals unknown."""
        now = self._clock.monotonic()
        if self._last is None or not 0.0 <= now - self._last[0] < self._max_age_s:
            self._last = (now, self._take())
        return self._last[1]

    def _take(self) -> Snapshot:
        found: dict[str, Any] = {}
        for source in self._sources:
            found.update(_readings(source))
        return replace(Snapshot(taken_at=self._clock.wall()), **found)


def _readings(source: Source) -> dict[str, Any]:
    try:
        reported = dict(source())
    except Exception:  # a driver may fail in any way; the policy says what an unknown signal means
        return {}
    return {name: value for name, value in reported.items() if name in _PLAUSIBLE and value is not None and _PLAUSIBLE[name](value)}


def _number(low: float, high: float) -> Callable[[Any], bool]:
    return lambda value: not isinstance(value, bool) and isinstance(value, int | float) and math.isfinite(value) and low <= value <= high


_PLAUSIBLE: dict[str, Callable[[Any], bool]] = {
    "battery_percent": _number(0, 100),
    "plugged": lambda value: isinstance(value, bool),
    "cpu_load": _number(0, 100_000),
    "memory_available_bytes": _number(0, 2**60),
    "temperature_c": _number(-60, 200),
    "link": lambda value: value in ("up", "down", "unknown"),
}


def battery() -> Mapping[str, Any]:
    """Charge and power source, where the machine has a battery."""
    import psutil

    state = psutil.sensors_battery()
    return {} if state is None else {"battery_percent": float(state.percent), "plugged": state.power_plugged}


def load() -> Mapping[str, Any]:
    """Run queue per CPU, and free memory."""
    import psutil

    return {
        "cpu_load": psutil.getloadavg()[0] / (os.cpu_count() or 1),
        "memory_available_bytes": int(psutil.virtual_memory().available),
    }


def temperature() -> Mapping[str, Any]:
    """The hottest sensor, where the platform shows any (Linux, FreeBSD)."""
    import psutil

    read = getattr(psutil, "sensors_temperatures", dict)
    degrees = [entry.current for entries in read().values() for entry in entries if entry.current is not None]
    return {"temperature_c": max(degrees)} if degrees else {}


def link() -> Mapping[str, Any]:
    """Up when a network interface other than loopback is up; unknown (a sandbox, say) when there is none at all."""
    import psutil

    outside = [stats.isup for name, stats in psutil.net_if_stats().items() if name not in ("lo", "lo0") and not name.startswith("Loopback")]
    return {"link": ("up" if any(outside) else "down") if outside else "unknown"}


DEVICE: tuple[Source, ...] = (battery, load, temperature, link)


def _percent(text: str) -> float:
    return float(text.removesuffix("%"))


def _yes_no(text: str) -> bool:
    return {"yes": True, "no": False}[text]


def _bytes(text: str) -> int:
    unit = {"K": 2**10, "M": 2**20, "G": 2**30}.get(text[-1:].upper(), 1)
    return int(float(text[:-1] if unit > 1 else text) * unit)


# name in --simulate → (Snapshot field, reader, what to write)
_SIMULATED: dict[str, tuple[str, Callable[[str], Any], str]] = {
    "battery": ("battery_percent", _percent, "a percentage such as 9%"),
    "plugged": ("plugged", _yes_no, "yes or no"),
    "load": ("cpu_load", float, "a run queue per CPU such as 1.7"),
    "memory": ("memory_available_bytes", _bytes, "bytes such as 300M"),
    "temperature": ("temperature_c", float, "degrees Celsius such as 85"),
    "link": ("link", str, "up, down or unknown"),
}


def simulate(text: str) -> Source:
    """The source for a rehearsal such as "battery=9%,link=down,plugged=no". Raises SignalError naming what is allowed."""
    values: dict[str, Any] = {}
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        name, equals, value = (side.strip() for side in part.partition("="))
        if name not in _SIMULATED or not equals:
            raise SignalError(f"--simulate {part!r}: write name=value with one of: {', '.join(_SIMULATED)}")
        field, read, expected = _SIMULATED[name]
        try:
            values[field] = read(value)
        except (ValueError, KeyError, OverflowError):
            raise SignalError(f"--simulate {name}={value}: expected {expected}") from None
        if not _PLAUSIBLE[field](values[field]):
            raise SignalError(f"--simulate {name}={value}: expected {expected}")
    if "battery_percent" in values:
        values.setdefault("plugged", False)  # a rehearsed battery is being drawn from unless said otherwise
    return lambda: values
