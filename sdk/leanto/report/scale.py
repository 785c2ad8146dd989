"""An axis: which values it spans, where they lie on it, and which of them are written beside it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Scale:
    """From `low` to `high`, in steps of equal size, or of equal ratio with `log`. `percent` writes 0.25 as 25 %."""

    label: str
    low: float
    high: float
    log: bool = False
    percent: bool = False

    def at(self, value: float) -> float:
        """Where `value` lies, 0 at the low end and 1 at the high one; what is beyond lies at the end."""
        low, high, here = (math.log(max(v, 1e-300)) if self.log else v for v in (self.low, self.high, value))
        return min(1.0, max(0.0, (here - low) / (high - low)))

    def ticks(self) -> list[tuple[float, str]]:
        """About five round values within the scale, as they are written."""
        found = self._ratios() if self.log else self._steps()
        return [(value, self._text(value)) for value in found]

    def _steps(self) -> list[float]:
        rough = (self.high - self.low) / 5
        size = 10.0 ** math.floor(math.log10(rough))
        step = next(size * part for part in (1, 2, 5, 10) if size * part >= rough * 0.999)
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [round(i * step, 12) for i in range(first, last + 1)]

    def _ratios(self) -> list[float]:
        decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        for parts in ((1, 2, 5), (1, 3), (1,)):
            values = [part * 10.0**decade for decade in decades for part in parts]
            found = [value for value in values if self.low * 0.999 <= value <= self.high * 1.001]
            if len(found) <= 8:
                return found
        return found[:: math.ceil(len(found) / 8)]

    def _text(self, value: float) -> str:
        return f"{100 * value:.4g} %" if self.percent else f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def spanning(label: str, values: Iterable[float], *, log: bool = False) -> Scale:
    """A scale that holds all of `values`, with round ends; from 0 unless it is logarithmic, and then over a decade at least."""
    known = [value for value in values if math.isfinite(value) and (value > 0 or not log)]
    most = max(known, default=1.0)
    if log:
        low, high = _round(min(known, default=most / 10), math.floor), _round(most, math.ceil)
        while high < 9.99 * low:
            low, high = _round(low * 0.9, math.floor), _round(high * 1.1, math.ceil)
        return Scale(label, low, high, log=True)
    return Scale(label, 0.0, most * 1.05 or 1.0)


def _round(value: float, towards: object) -> float:
    """The next of 1, 2, 5, 10, 20, … below or above."""
    decade = 10.0 ** math.floor(math.log10(value))
    steps = [part * decade for part in (1, 2, 5, 10)]
    if towards is math.floor:
        return max(step for step in steps if step <= value * 1.000001)
    return min(step for step in steps if step >= value * 0.999999)
