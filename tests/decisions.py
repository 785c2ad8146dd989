"""Lines of a decision log, made up: what the edge or the cloud answered, how surely and at what cost."""

from __future__ import annotations

from typing import Any

from leanto import Policy, Snapshot, parse_policy
from leanto.decision import Promise
from leanto.policy import Facts, Spent
from leanto.policy.logged import Logged

FACTS = Facts("call", "personal", 8, ("call", "text"), 256, cloud_configured=True)
FINE = Snapshot(80.0, True, 0.2, 10**9, 40.0, "up")


def line(route: str = "local", confidence: float | None = 0.9, **more: Any) -> Logged:
    values: dict[str, Any] = {
        "facts": FACTS, "spent": Spent(), "snapshot": FINE, "calibrated": True, "artifact_threshold": 0.5,
        "promise": Promise(), "lowest": None, "window": None,
        "total_ms": 10.0, "energy_j": 1.0, "usd": 0.0, "bytes_sent": 0,
    }  # fmt: skip
    return Logged(route=route, confidence=confidence, **{**values, **more})


CLOUDY = Snapshot(5.0, False, 0.2, 10**9, 40.0, "up")
LOG = [
    line(),
    line(confidence=0.6),
    line("cloud", None, snapshot=CLOUDY, total_ms=100.0, usd=0.01, bytes_sent=500, energy_j=0.1, window=None),
]


def threshold(value: float) -> Policy:
    return parse_policy(f"version = 1\n[quality.confidence_threshold]\ncall = {value}\n")
