"""What a replay must show, written in a line: "local_share >= 0.5", or, compared with the log as it was, "p95_ms <= 1.1x"."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields

from leanto.errors import UserError
from leanto.policy.figures import Figures

NAMES = tuple(field.name for field in fields(Figures))
_SIGNS: Mapping[str, Callable[[float, float], bool]] = {"<=": operator.le, ">=": operator.ge, "<": operator.lt, ">": operator.gt}
_CLAIM = re.compile(r"\s*(\w+)\s*(<=|>=|<|>)\s*([0-9.]+(?:e-?\d+)?)(x?)\s*")


@dataclass(frozen=True, slots=True)
class Claim:
    """`relative`: the limit is a multiple of the figure before."""

    text: str
    name: str
    sign: str
    limit: float
    relative: bool

    def holds(self, before: Mapping[str, float | None], after: Mapping[str, float | None]) -> bool:
        """Whether it does. A figure that is missing proves nothing."""
        value, base = after[self.name], before[self.name] if self.relative else 1.0
        return value is not None and base is not None and _SIGNS[self.sign](value, self.limit * base)


def read_claim(text: str) -> Claim:
    """The claim in `text`. Raises UserError saying what one looks like."""
    found = _CLAIM.fullmatch(text)
    if found is None or found[1] not in NAMES:
        raise UserError(f'--require {text!r}: write a figure, a sign and a number, such as "p95_ms <= 1.1x"; figures: {", ".join(NAMES)}')
    try:
        return Claim(text, found[1], found[2], float(found[3]), bool(found[4]))
    except ValueError:
        raise UserError(f"--require {text!r}: {found[3]} is no number") from None
