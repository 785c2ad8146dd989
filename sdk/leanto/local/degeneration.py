"""Answers that can come to nothing any more: one that says the same again and again, and a call that cannot become a JSON object.

A microsecond or two a token. Knows nothing of logprobs or policies.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass

from leanto.local.json_prefix import JsonPrefix

REPEATED_TOKENS = 8  # so many that come again and again are a loop, not a refrain


@dataclass(frozen=True, slots=True)
class Breakdown:
    """The check of the stage "stream" that failed, with its value and threshold."""

    name: str
    value: int | bool
    threshold: int | bool
    reason: str


class Degeneration:
    """Of one answer: whether it must become a `call`, and how often the same tokens may come in it (None: as often as they like)."""

    def __init__(self, *, call: bool, max_repeats: int | None) -> None:
        self._form = JsonPrefix() if call else None
        self._most = max_repeats
        self._newest: deque[int] = deque(maxlen=REPEATED_TOKENS)
        self._runs: Counter[tuple[int, ...]] = Counter()

    def add(self, token_id: int, text: str) -> Breakdown | None:
        """The next token, and what it broke."""
        if self._form is not None and not self._form.feed(text):
            return Breakdown("json_prefix", False, True, "what was generated cannot become a JSON object any more")
        if self._most is None:
            return None
        self._newest.append(token_id)
        if len(self._newest) < REPEATED_TOKENS:
            return None
        run = tuple(self._newest)
        self._runs[run] += 1
        if self._runs[run] <= self._most:
            return None
        return Breakdown("repeats", self._runs[run], self._most, f"times that the same {REPEATED_TOKENS} tokens came")
