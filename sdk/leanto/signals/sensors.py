"""Asks the sources on a thread of its own, and leaves behind whichever hangs. Knows nothing of what they read."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from leanto.clock import Clock
from leanto.signals.snapshot import Snapshot, plausible

Source = Callable[[], Mapping[str, Any]]  # reads some signals; returns only the ones it knows, by their Snapshot names

PATIENCE_S = 0.1  # before the source at hand is left behind


class Sensors:
    """Later sources override earlier ones; what they said is kept for `max_age_s` seconds."""

    def __init__(self, sources: Iterable[Source], *, clock: Clock | None = None, max_age_s: float = 1.0) -> None:
        self._sources = tuple(sources)
        self._clock = clock or Clock()
        self._max_age_s = max_age_s
        self._last: tuple[float, Snapshot] | None = None
        self._hanging: dict[Source, threading.Thread] = {}

    def read(self) -> Snapshot:
        """The current Snapshot. Never raises: a source that fails, hangs or says something impossible leaves its signals unknown."""
        now = self._clock.monotonic()
        if self._last is None or not 0.0 <= now - self._last[0] < self._max_age_s:
            self._last = (now, self._take())
        return self._last[1]

    def _take(self) -> Snapshot:
        found: dict[str, Any] = {}
        left = [source for source in self._sources if not self._hangs(source)]
        while left:
            asking = _Round(left)
            found.update(asking.answers())
            if asking.hung is None:
                break
            self._hanging[left[asking.hung]] = asking
            left = left[asking.hung + 1 :]
        return replace(Snapshot(taken_at=self._clock.wall()), **found)

    def _hangs(self, source: Source) -> bool:
        return source in self._hanging and self._hanging[source].is_alive()


class _Round(threading.Thread):
    """Asks one source after the other, until it is done or left behind at the one numbered `hung`."""

    def __init__(self, sources: Sequence[Source]) -> None:
        super().__init__(name="leanto-signals", daemon=True)
        self.hung: int | None = None
        self._sources = sources
        self._said: list[dict[str, Any]] = []  # grows only by whole answers

    def answers(self) -> dict[str, Any]:
        """What those before the one that hangs have said."""
        self.start()
        asked = -1
        while self.is_alive() and len(self._said) > asked:  # each answer earns the next source its own patience
            asked = len(self._said)
            self.join(PATIENCE_S)
        said = list(self._said)
        if len(said) < len(self._sources):
            self.hung = len(said)
        return {name: value for answer in said for name, value in answer.items()}

    def run(self) -> None:
        for source in self._sources:
            answer = _ask(source)
            if self.hung is not None:
                return
            self._said.append(answer)


def _ask(source: Source) -> dict[str, Any]:
    try:
        return {name: value for name, value in dict(source()).items() if plausible(name, value)}
    except Exception:  # a driver may fail in any way; the policy says what an unknown signal means
        return {}
