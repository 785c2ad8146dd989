"""What macOS adds, by its own commands: throttling (`pmset -g therm`, pmset(1)) and memory pressure (`kern.memorystatus_vm_pressure_level`,
the level that DISPATCH_SOURCE_TYPE_MEMORYPRESSURE reports). Elsewhere there is neither, and nothing is said.

The readers are pure, and checked on output of the documented form; nobody has run this on a Mac.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

TIMEOUT_S = 1.0
PRESSURE: Mapping[str, float] = {"1": 0.0, "2": 0.5, "4": 1.0}  # normal, warning, critical: macOS tells no share of the time


def thermal() -> Mapping[str, Any]:
    """Whether the processor is slowed down, where the Mac tells it."""
    return read_thermal(_output("/usr/bin/pmset", "-g", "therm"))


def memory() -> Mapping[str, Any]:
    """The level of memory pressure, as a share."""
    return read_pressure(_output("/usr/sbin/sysctl", "-n", "kern.memorystatus_vm_pressure_level"))


def read_thermal(text: str) -> Mapping[str, Any]:
    """From lines such as "CPU_Speed_Limit = 80" (percent). Notes that nothing was recorded tell nothing."""
    limits = [int(match[1]) for match in re.finditer(r"^\s*CPU_(?:Speed|Scheduler)_Limit\s*=\s*(\d{1,3})\s*$", text, re.MULTILINE)]
    return {"throttled": any(limit < 100 for limit in limits)} if limits else {}


def read_pressure(text: str) -> Mapping[str, Any]:
    """From the level alone on its line."""
    level = PRESSURE.get(text.strip())
    return {} if level is None else {"memory_pressure": level}


def _output(*command: str) -> str:
    if sys.platform != "darwin":
        return ""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False).stdout
    except (OSError, UnicodeDecodeError, subprocess.TimeoutExpired):
        return ""
