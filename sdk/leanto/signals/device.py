"""Signals of any system, by psutil: battery and power source, load, free memory, temperature, link.

Temperatures are read on Linux and FreeBSD. What each system's own interfaces add is in `sysfs`, `darwin` and `windows`.
No file of an operating system tells whether bytes cost money, so it is unknown unless somebody says so: LEANTO_METERED=yes (or no), or a
source of the application's own, `lambda: {"metered": True}`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import Any

from leanto.clock import Clock
from leanto.signals import darwin, windows
from leanto.signals.sensors import Source
from leanto.signals.sysfs import memory, power_supply, thermal

WINDOWS_SETTLES_S = 6.0  # five by psutil's documentation, and the first sample


def battery() -> Mapping[str, Any]:
    """Charge and power source, where the machine has a battery."""
    import psutil

    state = psutil.sensors_battery()
    if state is None:
        return {}
    return {"battery_percent": None if state.percent is None else float(state.percent), "plugged": state.power_plugged}


class Load:
    """Run queue per CPU. On Windows psutil begins to count with the first call, and says 0 for five seconds: unknown until then."""

    def __init__(self, clock: Clock | None = None, platform: str = sys.platform) -> None:
        self._clock = clock or Clock()
        self._settles_s = WINDOWS_SETTLES_S if platform == "win32" else 0.0
        self._began: float | None = None

    def __call__(self) -> Mapping[str, Any]:
        """The mean of the last minute."""
        import psutil

        running = psutil.getloadavg()[0]
        now = self._clock.monotonic()
        if self._began is None:
            self._began = now
        return {"cpu_load": running / (os.cpu_count() or 1)} if now - self._began >= self._settles_s else {}


def free_memory() -> Mapping[str, Any]:
    """Bytes that a process may still have."""
    import psutil

    return {"memory_available_bytes": int(psutil.virtual_memory().available)}


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


def declared() -> Mapping[str, Any]:
    """What the user says of the link."""
    said = os.environ.get("LEANTO_METERED", "").strip().lower()
    return {"metered": said == "yes"} if said in ("yes", "no") else {}


DEVICE: tuple[Source, ...] = (
    *(battery, Load(), free_memory, temperature, link),
    *(power_supply, thermal, memory),
    *(darwin.thermal, darwin.memory, windows.Memory()),
    declared,
)
