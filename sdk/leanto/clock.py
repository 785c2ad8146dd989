"""Time, injected: the one place where the SDK reads a clock, so that no test has to wait. Knows nothing of requests."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Clock:
    """`monotonic()` in seconds measures durations; `wall()` in seconds since the epoch stamps records."""

    monotonic: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time
