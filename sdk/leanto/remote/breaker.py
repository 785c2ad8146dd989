"""A circuit breaker: after a few failures in a row, leave the node alone for a while. Knows nothing of gRPC or requests."""

from __future__ import annotations

from leanto.clock import Clock

FAILURES = 3
COOLDOWN_S = 10.0


class Breaker:
    """Opens after `failures` in a row; after `cooldown_s` one more failure opens it again, and a success closes it."""

    def __init__(self, clock: Clock, *, failures: int = FAILURES, cooldown_s: float = COOLDOWN_S) -> None:
        self._clock = clock
        self._limit = failures
        self._cooldown_s = cooldown_s
        self._failures = 0
        self._open_until = 0.0

    @property
    def wait_s(self) -> float:
        """Seconds until a call may be tried; 0 while the breaker is closed."""
        return max(0.0, self._open_until - self._clock.monotonic()) if self._failures >= self._limit else 0.0

    def failed(self) -> None:
        """A call failed."""
        self._failures += 1
        self._open_until = self._clock.monotonic() + self._cooldown_s

    def succeeded(self) -> None:
        """A call was answered to its end."""
        self._failures = 0
