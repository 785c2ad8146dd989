"""Signals of any system, by psutil: battery and power source, load, free memory, temperature, link.

macOS and Windows have battery, load and memory; temperatures are read on Linux and FreeBSD. What Linux's own files add is in `sysfs`.
No file of an operating system tells whether bytes cost money, so it is unknown unless somebody says so: LEANTO_METERED=yes (or no), or a
source of the application's own, `lambda: {"metered": True}`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from leanto.signals.sensors import Source
from leanto.signals.sysfs import memory, power_supply, thermal


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


def declared() -> Mapping[str, Any]:
    """What the user says of the link."""
    said = os.environ.get("LEANTO_METERED", "").strip().lower()
    return {"metered": said == "yes"} if said in ("yes", "no") else {}


DEVICE: tuple[Source, ...] = (battery, load, temperature, link, power_supply, thermal, memory, declared)
