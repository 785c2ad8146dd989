"""A low quantile of an answer's logprobs while it grows: what tells first that an answer goes wrong. Knows nothing of thresholds."""

from __future__ import annotations

from bisect import insort


class LowLogprob:
    """The second lowest logprob of an answer so far, and of each further ten tokens the next: about its lowest tenth, but never the one
    outlier. Falls below what finished answers that are kept ever show long before a mean does (docs/log.md)."""

    def __init__(self) -> None:
        self._sorted: list[float] = []

    def add(self, logprob: float) -> float:
        """After one more token, in nats; 0 for the first."""
        insort(self._sorted, logprob)
        n = len(self._sorted)
        return self._sorted[1 + n // 10] if n > 1 else 0.0
