"""A rehearsed device: `--simulate battery=9%,link=down`. Knows nothing of real ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from leanto.errors import SignalError
from leanto.signals.sensors import Source
from leanto.signals.snapshot import plausible


def _percent(text: str) -> float:
    return float(text.removesuffix("%"))


def _percent_share(text: str) -> float:
    return _percent(text) / 100


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
    "metered": ("metered", _yes_no, "yes or no"),
    "throttled": ("throttled", _yes_no, "yes or no"),
    "pressure": ("memory_pressure", _percent_share, "a percentage of the time such as 20%"),
    "rtt": ("rtt_ms", float, "milliseconds such as 300"),
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
        if not plausible(field, values[field]):
            raise SignalError(f"--simulate {name}={value}: expected {expected}")
    if "battery_percent" in values:
        values.setdefault("plugged", False)  # a rehearsed battery is being drawn from unless said otherwise
    return lambda: values
