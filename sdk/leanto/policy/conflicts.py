"""Pairs of rules that would leave nothing that could answer, each with an example. Found by trying values, never by reading conditions.

The values tried are those that the two conditions name, some between and around them, and "unknown"; so comparisons with constants are
covered, and every example is true. What only a comparison of two variables tells may be missed. Knows nothing of files.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations, pairwise, product
from math import prod

from leanto.decision import Value
from leanto.policy.condition import VARIABLES, context, evaluate, tokens, variables
from leanto.policy.rules import Rule, opposed
from leanto.policy.schema import Policy
from leanto.signals.snapshot import plausible

MAX_TRIED = 4096  # for one pair: about 10 ms
_SIGNALS = {
    *("battery_percent", "plugged", "cpu_load", "memory_available_bytes", "temperature_c"),
    *("battery_power_w", "memory_pressure", "throttled", "metered", "rtt_ms"),
}
_WORDS = {"task": ("call", "text"), "link": ("up", "down", "unknown")}


@dataclass(frozen=True, slots=True)
class Conflict:
    """Two rules, by their numbers from 0, that both apply with these values; None is "unknown"."""

    first: int
    second: int
    example: dict[str, Value]


def conflicts(policy: Policy) -> list[Conflict]:
    """Every pair found."""
    found = []
    for (i, one), (j, other) in combinations(enumerate(policy.rules), 2):
        if opposed(one, other):
            example = next((values for values in _tried(policy, one, other) if _applies(one, values) and _applies(other, values)), None)
            if example is not None:
                found.append(Conflict(i, j, example))
    return found


def _applies(rule: Rule, values: dict[str, Value]) -> bool:
    return rule.applies(evaluate(rule.program, context(values)))


def _tried(policy: Policy, one: Rule, other: Rule) -> Iterator[dict[str, Value]]:
    """Values for the variables of both, known ones before unknown ones."""
    names = sorted(variables(one.condition) | variables(other.condition))
    numbers = _numbers([*tokens(one.condition), *tokens(other.condition)])
    domains = [_domain(name, policy, numbers) for name in names]
    if prod(map(len, domains)) <= MAX_TRIED:
        yield from (dict(zip(names, values, strict=True)) for values in product(*domains))
    else:
        draw = random.Random(0)
        yield from ({name: draw.choice(domain) for name, domain in zip(names, domains, strict=True)} for _ in range(MAX_TRIED))


def _domain(name: str, policy: Policy, numbers: list[float]) -> list[Value]:
    example = VARIABLES[name][0]
    found: list[Value]
    if isinstance(example, bool):
        found = [True, False]
    elif isinstance(example, str):
        found = list(policy.privacy.classes) if name == "privacy" else list(_WORDS[name])
    else:
        whole = isinstance(example, int)
        found = [int(number) if whole else number for number in numbers if number >= 0 or name == "temperature_c"]
    if name in _SIGNALS:
        found = [*(value for value in found if plausible(name, value)), None]
    return list(dict.fromkeys(found)) or [example]


def _numbers(words: list[str]) -> list[float]:
    """Those written, with both signs, and some between and beyond."""
    written = sorted({0.0, *(sign * _number(word) for word in words for sign in (1, -1) if word[0].isdigit() or word[0] == ".")})
    between = [(a + b) / 2 for a, b in pairwise(written)]
    return sorted({*written, *between, *(number + step for number in written for step in (-1, 1))})


def _number(word: str) -> float:
    try:
        return float(int(word, 16) if word[:2].lower() == "0x" else word.rstrip("uU"))
    except ValueError:
        return 0.0
