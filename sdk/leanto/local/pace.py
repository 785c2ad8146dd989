"""How long the edge takes for an answer, by its last ones: tokens a second, and tokens an answer of each task. Nothing is kept on disk."""

from __future__ import annotations

from leanto.clock import Clock

WEIGHT = 0.2  # of the newest answer
FEWEST_TOKENS = 4  # that say something of the speed
EXPIRES_S = 600.0  # a speed this old is none: an edge found too slow is tried again, for only that can show it to be faster


class Pace:
    """Of one client. Exponentially weighted; knows nothing until an answer was finished."""

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or Clock()
        self._tokens_per_s = 0.0
        self._measured_at = float("-inf")
        self._tokens: dict[str, float] = {}

    def observe(self, task: str, tokens: int, seconds: float, *, finished: bool = True) -> None:
        """What the edge generated, in so many seconds of its own work; one that was not `finished` says nothing of an answer's length."""
        if tokens < FEWEST_TOKENS or not seconds > 0:
            return
        self._tokens_per_s, self._measured_at = _mixed(self._speed, tokens / seconds), self._clock.monotonic()
        if finished:
            self._tokens[task] = _mixed(self._tokens.get(task), tokens)

    def expected_ms(self, task: str, max_tokens: int) -> float | None:
        """For an answer to `task` of at most so many tokens; None where nothing is known."""
        tokens, speed = self._tokens.get(task), self._speed
        return None if tokens is None or not speed else 1000 * min(tokens, max_tokens) / speed

    def tokens(self, task: str) -> float | None:
        """Of an answer to `task`, usually."""
        return self._tokens.get(task)

    @property
    def _speed(self) -> float | None:
        return self._tokens_per_s if 0 <= self._clock.monotonic() - self._measured_at < EXPIRES_S else None


def _mixed(before: float | None, now: float) -> float:
    return now if before is None else (1 - WEIGHT) * before + WEIGHT * now
