"""The circuit breaker, with a clock that the test moves."""

from __future__ import annotations

from leanto.clock import Clock
from leanto.remote.breaker import Breaker


def test_it_opens_after_the_last_allowed_failure_and_closes_with_the_cooldown() -> None:
    now = [100.0]
    breaker = Breaker(Clock(monotonic=lambda: now[0]), failures=2, cooldown_s=5.0)
    breaker.failed()
    assert breaker.wait_s == 0.0
    breaker.failed()
    assert breaker.wait_s == 5.0
    now[0] = 105.0
    assert breaker.wait_s == 0.0


def test_one_failure_after_the_cooldown_opens_it_again() -> None:
    now = [0.0]
    breaker = Breaker(Clock(monotonic=lambda: now[0]), failures=2, cooldown_s=5.0)
    breaker.failed()
    breaker.failed()
    now[0] = 5.0
    breaker.failed()
    assert breaker.wait_s == 5.0


def test_a_success_forgets_the_failures() -> None:
    breaker = Breaker(Clock(monotonic=lambda: 0.0), failures=2, cooldown_s=5.0)
    breaker.failed()
    breaker.succeeded()
    breaker.failed()
    assert breaker.wait_s == 0.0
