"""Limits that a wobbling signal crosses once, not at every request: one that holds lets go only a band further on.

Pure: what held at the last look comes with the snapshot (`strained`), and what holds now goes into the next one.
"""

from __future__ import annotations

from dataclasses import dataclass

from leanto.policy.schema import Policy
from leanto.signals import Snapshot

BATTERY_BAND_PERCENT = 3.0
TEMPERATURE_BAND_C = 5.0
SHARE_BAND = 0.8  # of a limit on load, memory pressure or round trips


@dataclass(frozen=True, slots=True)
class Limit:
    """`bound` is where the verdict turns now. `holds` None: no source can tell."""

    value: float | None
    bound: float | None
    holds: bool | None


def limits(policy: Policy, snapshot: Snapshot) -> dict[str, Limit]:
    """Every limit of the policy that has a band, by the name of its check."""
    budgets = policy.budgets

    def most(name: str, value: float | None, bound: float | None, released: float) -> Limit:
        if bound is not None and name in snapshot.strained:
            bound = released
        return Limit(value, bound, None if value is None else bound is not None and value > bound)

    def share(name: str, value: float | None, bound: float | None) -> Limit:
        return most(name, value, bound, SHARE_BAND * (bound or 0.0))

    charge, floor = snapshot.battery_percent, budgets.battery_floor_percent
    if "battery_percent" in snapshot.strained:
        floor += BATTERY_BAND_PERCENT
    low: bool | None = charge is not None and charge < floor and snapshot.plugged is not True
    if charge is None and snapshot.plugged is not True and budgets.battery_floor_percent > 0:
        low = None
    heat, hottest = snapshot.temperature_c, budgets.max_temperature_c
    return {
        "battery_percent": Limit(charge, floor, low),
        "temperature_c": most("temperature_c", heat, hottest, hottest - TEMPERATURE_BAND_C),
        "cpu_load": share("cpu_load", snapshot.cpu_load, budgets.max_cpu_load),
        "memory_pressure": share("memory_pressure", snapshot.memory_pressure, budgets.max_memory_pressure),
        "rtt_ms": share("rtt_ms", snapshot.rtt_ms, budgets.max_rtt_ms),
        "throttled": Limit(None, None, snapshot.throttled),
    }


def strained(policy: Policy, snapshot: Snapshot) -> tuple[str, ...]:
    """The limits that hold: `strained` of the next snapshot. One that no source can tell keeps its state."""
    return tuple(
        name for name, limit in limits(policy, snapshot).items() if limit.holds or (limit.holds is None and name in snapshot.strained)
    )
