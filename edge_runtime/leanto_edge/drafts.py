"""Guesses what comes next from what came before: after the same few tokens, the same again (prompt lookup, arXiv 2311.08252's idea).

A draft costs a share of a step and changes no token: the model itself says how much of it was right.
"""

from __future__ import annotations

LONGEST, SHORTEST = 4, 2  # tokens that must have come before in this order


class NgramDraft:
    """An index of one text's n-grams, longest first."""

    def __init__(self) -> None:
        self._seen: list[int] = []
        self._after: dict[tuple[int, ...], int] = {}  # n-gram → where its newest but last occurrence ends

    def propose(self, tokens: list[int], count: int) -> list[int]:
        """Up to `count` tokens to follow `tokens`, which begins with what was given the last time."""
        for end in range(len(self._seen), len(tokens)):
            for length in range(SHORTEST, LONGEST + 1):  # those that end before the newest token: it is what follows them
                if end >= length:
                    self._after[tuple(tokens[end - length : end])] = end
            self._seen.append(tokens[end])
        for length in range(min(LONGEST, len(tokens)), SHORTEST - 1, -1):
            at = self._after.get(tuple(tokens[-length:]))
            if at is not None:
                return tokens[at : at + count]
        return []
