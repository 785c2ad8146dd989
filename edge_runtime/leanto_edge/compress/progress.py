"""How far a compression is: the stages, and a clock that tells the caller what is done and how long the rest will take."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Literal

Stage = Literal["load", "weigh", "compress", "recover", "measure", "write"]
Progress = Callable[[Stage, int, int, float], None]  # stage, done, total (weights or documents), seconds left of the stage


class Clock:
    """Tells the caller how far a stage is and how long it will still take."""

    def __init__(self, progress: Progress | None) -> None:
        self._progress = progress
        self._begin = self._since = time.monotonic()
        self._stage: Stage = "load"
        self._total, self._done = 1, 0

    @property
    def seconds(self) -> float:
        """Since the beginning."""
        return time.monotonic() - self._begin

    def start(self, stage: Stage, total: int) -> None:
        """Begin a stage of `total` units."""
        self._stage, self._total, self._done, self._since = stage, total, 0, time.monotonic()

    def advance(self, units: int) -> None:
        """`units` more are done."""
        self.done(self._done + units)

    def done(self, units: int) -> None:
        """`units` in all are done."""
        self._done = units
        left = (time.monotonic() - self._since) * (self._total - units) / units if units else 0.0
        if self._progress:
            self._progress(self._stage, units, self._total, left)
