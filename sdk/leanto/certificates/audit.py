"""Audit of local answers: a sample is asked again in the cloud, and a bet against "the promise holds" is paid or lost with each.

While the promise holds, money that starts at 1 ever reaches 1/delta with probability at most delta (Ville's inequality), so an alarm may
be raised at any time. Pure functions over a small state of plain numbers; knows nothing of clouds or files.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

SHIFT = 2.0  # the risk, in multiples of alpha, that the bet is sharpest at
FIRST_STAKE = 0.9  # of the money is bet from the start, the rest bit by bit, for a shift that comes late
PATIENCE = 200.0  # audited answers after which half of the rest is bet


@dataclass(frozen=True, slots=True)
class Audit:
    """The state after `audited` answers, `worse` of them other than the cloud's: `staked` is the money in the bet, against the promise
    P(worse) ≤ `alpha`. `alarmed` stays, whatever comes after."""

    alpha: float
    delta: float
    audited: int = 0
    worse: int = 0
    staked: float = 0.0
    alarmed: bool = False

    def __post_init__(self) -> None:
        """Raise ValueError for a state that cannot have come about."""
        if not (0 < self.alpha < 1 and 0 < self.delta < 1):
            raise ValueError(f"alpha {self.alpha} and delta {self.delta}: must lie between 0 and 1")
        if type(self.audited) is not int or type(self.worse) is not int or not 0 <= self.worse <= self.audited:
            raise ValueError(f"{self.worse!r} worse of {self.audited!r} audited: expected whole numbers, the first not above the second")
        if not (math.isfinite(self.staked) and self.staked >= 0) or type(self.alarmed) is not bool:
            raise ValueError(f"staked {self.staked!r}, alarmed {self.alarmed!r}: expected a finite amount from 0, and true or false")

    @property
    def e_value(self) -> float:
        """All the money: what is staked and what is still held back. Its mean is at most 1 as long as the promise holds."""
        return self.staked + _held_back(self.audited)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for a store that survives a restart."""
        return asdict(self)


def observe(state: Audit, worse: bool) -> Audit:
    """The state after one more audited answer.

    The factor 1 + bet·(worse − alpha) has mean ≤ 1 if P(worse) ≤ alpha whatever came before, so the money is a nonnegative
    supermartingale (Waudby-Smith & Ramdas, 2024). The bet is that of the likelihood ratio of SHIFT·alpha against alpha, which no other
    beats at that risk (Kelly). Money released by a fixed schedule is a mixture over the times at which a shift may begin, and as valid.
    """
    if not isinstance(worse, bool):
        raise ValueError(f"an audited answer is worse or it is not, so expected true or false, not {worse!r:.40}")
    shifted = min(SHIFT * state.alpha, (1 + state.alpha) / 2)
    bet = (shifted - state.alpha) / (state.alpha * (1 - state.alpha))
    kept_back = _held_back(state.audited + 1)
    release = _held_back(state.audited) - kept_back
    staked = min((state.staked + release) * (1 + bet * (worse - state.alpha)), 1e300)
    alarmed = state.alarmed or staked + kept_back >= 1 / state.delta
    return replace(state, audited=state.audited + 1, worse=state.worse + worse, staked=staked, alarmed=alarmed)


def from_dict(values: Mapping[str, Any]) -> Audit:
    """The state that `to_dict` gave. Raises ValueError for anything else."""
    try:
        return Audit(**values)
    except TypeError:
        raise ValueError("an audit state has alpha, delta, audited, worse, staked and alarmed, and nothing else") from None


def _held_back(audited: int) -> float:
    """The money not yet bet after `audited` answers."""
    return 1.0 if audited == 0 else (1 - FIRST_STAKE) / (1 + (audited - 1) / PATIENCE)
