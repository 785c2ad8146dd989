"""The device at one instant, and which readings can be true at all. Knows nothing of where they come from."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

Link = Literal["up", "down", "unknown"]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """None (and link "unknown") means that no source could tell.

    `cpu_load` is the one-minute run queue per logical CPU (1.0 = fully busy); `temperature_c` the hottest sensor; `throttled` says that
    a part of the machine is as hot as makes it slow down; `memory_pressure` is the share of the last ten seconds in which something
    waited for memory; `battery_power_w` is what is drawn from the battery, 0 while it charges; `metered` that bytes cost money.
    `rtt_ms` is the time to the cloud and back, as seen lately. `strained` are the limits that held at the last look: see
    leanto.policy.hysteresis.
    """

    battery_percent: float | None = None
    plugged: bool | None = None
    cpu_load: float | None = None
    memory_available_bytes: int | None = None
    temperature_c: float | None = None
    link: Link = "unknown"
    taken_at: float = 0.0
    battery_power_w: float | None = None
    memory_pressure: float | None = None
    throttled: bool | None = None
    metered: bool | None = None
    rtt_ms: float | None = None
    strained: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, for the decision record."""
        return asdict(self)


def plausible(name: str, value: Any) -> bool:
    """Whether `value` can be a reading of the signal `name`; what a device cannot have is not passed on."""
    return name in _PLAUSIBLE and value is not None and _PLAUSIBLE[name](value)


def _number(low: float, high: float) -> Callable[[Any], bool]:
    return lambda value: not isinstance(value, bool) and isinstance(value, int | float) and math.isfinite(value) and low <= value <= high


def _flag(value: Any) -> bool:
    return isinstance(value, bool)


_PLAUSIBLE: Mapping[str, Callable[[Any], bool]] = {
    "battery_percent": _number(0, 100),
    "plugged": _flag,
    "cpu_load": _number(0, 100_000),
    "memory_available_bytes": _number(0, 2**60),
    "temperature_c": _number(-60, 200),
    "link": lambda value: value in ("up", "down", "unknown"),
    "battery_power_w": _number(0, 10_000),
    "memory_pressure": _number(0, 1),
    "throttled": _flag,
    "metered": _flag,
    "rtt_ms": _number(0, 3.6e6),
}
