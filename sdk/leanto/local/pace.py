"""How long the edge takes for an answer, by its last ones: tokens a second, and tokens an answer of each task. Nothing is kept on disk."""

from __future__ import annotations

WEIGHT = 0.2  # of the newest answer
FEWEST_TOKENS = 4  # that say something of the speed


class Pace:
    """Of one client. Exponentially weighted; knows nothing until an answer was finished."""

    def __init__(self) -> None:
        self._tokens_per_s: float | None = None
        self._tokens: dict[str, float] = {}

    def observe(self, task: str, tokens: int, seconds: float) -> None:
        """A finished local answer."""
        if tokens < FEWEST_TOKENS or not seconds > 0:
            return
        self._tokens_per_s = _mixed(self._tokens_per_s, tokens / seconds)
        self._tokens[task] = _mixed(self._tokens.get(task), tokens)

    def expected_ms(self, task: str, max_tokens: int) -> float | None:
        """For an answer to `task` of at most so many tokens; None where nothing is known."""
        tokens = self._tokens.get(task)
        return None if tokens is None or not self._tokens_per_s else 1000 * min(tokens, max_tokens) / self._tokens_per_s


def _mixed(before: float | None, now: float) -> float:
    return now if before is None else (1 - WEIGHT) * before + WEIGHT * now
