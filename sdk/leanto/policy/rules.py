"""Rules of one's own: CEL conditions over a few documented variables, checked when the policy is read, evaluated without side effects.

A condition always ends: CEL has no loops, and its comprehensions are not taken. Knows nothing of what a rule then does.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from leanto.decision import Target, Value
from leanto.policy.verdict import TARGETS

if TYPE_CHECKING:
    from cel import Program

KEYS = ("name", "if", "allow", "prefer", "unknown")
MAX_CHARS = 500
VARIABLES: Mapping[str, tuple[Value, str]] = {  # name → (an example, what it is)
    "task": ("text", '"call" or "text"'),
    "privacy": ("personal", "the class of the request"),
    "prompt_tokens": (100, "counted by the edge's tokenizer"),
    "context_length": (512, "of the edge model"),
    "edge_fit": (True, "whether the edge model survived its compression"),
    "battery_percent": (80.0, "charge"),
    "plugged": (True, "whether the device draws from the mains"),
    "cpu_load": (0.5, "run queue per CPU"),
    "memory_available_bytes": (2**30, "free memory"),
    "temperature_c": (50.0, "the hottest sensor"),
    "link": ("up", '"up", "down" or "unknown"'),
    "battery_power_w": (5.0, "watts drawn from the battery"),
    "memory_pressure": (0.0, "share of the last ten seconds in which something waited for memory"),
    "throttled": (False, "whether a part is so hot that the machine slows down"),
    "metered": (False, "whether bytes cost money on this link, where the application says so"),
    "rtt_ms": (40.0, "time to the cloud and back, as seen lately"),
    "bytes_sent": (0, "sealed bytes sent by this client"),
}
FUNCTIONS = {"contains", "endsWith", "matches", "size", "startsWith"}
_COMPREHENSION = re.compile(r"\.\s*(all|exists|exists_one|map|filter|transformList|transformMap|bind|sortBy)\s*\(")


@dataclass(frozen=True, slots=True)
class Rule:
    """`allow`: nothing else may answer, not even as a last resort. `prefer`: the other target steps back while this one may answer.

    `unknown`: whether a condition without a value (a signal that no source could tell, a comparison of unlike things) counts as true.
    """

    name: str
    condition: str
    allow: tuple[Target, ...] = ()
    prefer: Target | None = None
    unknown: Literal["apply", "skip"] = "apply"
    program: Program = field(default=None, compare=False, repr=False)  # type: ignore[assignment]

    def holds(self, values: Any) -> bool | None:
        """The condition's value in a context made by `context`; None where it has none. Never raises."""
        try:
            found = self.program.execute(values)
        except Exception:  # CEL's errors are many, and all mean the same here
            return None
        return found if isinstance(found, bool) else None

    def to_dict(self) -> dict[str, Any]:
        """As it is written."""
        plain = {"name": self.name, "if": self.condition, "allow": list(self.allow), "prefer": self.prefer, "unknown": self.unknown}
        return {key: value for key, value in plain.items() if value}


class RuleFault(ValueError):
    """What is wrong with the value of `key`."""

    def __init__(self, key: str, message: str) -> None:
        super().__init__(message)
        self.key = key


def read_rule(entry: Mapping[str, Any], before: Sequence[Rule]) -> Rule:
    """The rule in one table of the file, behind those in `before`. Raises RuleFault."""
    for key in entry:
        if key not in KEYS:
            raise RuleFault(key, f"is unknown; allowed: {', '.join(KEYS)}")
    name, condition, allow, prefer = (entry.get(key) for key in KEYS[:4])
    if not isinstance(name, str) or not name.strip() or any(name == rule.name for rule in before):
        raise RuleFault("name", "must be a text of its own: a decision cites the rule by it")
    if not isinstance(condition, str):
        raise RuleFault("if", 'must be a CEL condition such as "prompt_tokens > 300"')
    if (allow is None) == (prefer is None):
        raise RuleFault("allow", 'or prefer: give one of them, allow = ["local"] or prefer = "cloud"')
    if prefer not in (None, *TARGETS):
        raise RuleFault("prefer", 'must be "local" or "cloud"')
    if allow is not None and (not isinstance(allow, list) or not allow or any(target not in TARGETS for target in allow)):
        raise RuleFault("allow", 'must be a list of "local" and "cloud"')
    allowed: tuple[Target, ...] = tuple(target for target in TARGETS if target in (allow or ()))
    for rule in before:
        if allowed and rule.allow and rule.condition == condition and not set(rule.allow) & set(allowed):
            raise RuleFault("allow", f"contradicts the rule {rule.name!r}: together they leave nothing that could answer")
    unknown = entry.get("unknown", "apply" if allow else "skip")
    if unknown not in ("apply", "skip"):
        raise RuleFault("unknown", 'must be "apply" or "skip"')
    try:
        return Rule(name, condition, allow=allowed, prefer=prefer, unknown=unknown, program=compiled(condition))
    except ValueError as error:
        raise RuleFault("if", str(error)) from None


def context(values: Mapping[str, Value]) -> Any:
    """The variables of one decision, ready for any number of rules."""
    from cel import Context

    return Context(variables=dict(values))


def compiled(condition: str) -> Program:
    """The condition, parsed. Raises ValueError saying what is wrong and what is allowed."""
    from cel import compile as parse

    if len(condition) > MAX_CHARS:
        raise ValueError(f"is longer than {MAX_CHARS} characters; split it into several rules")
    if _COMPREHENSION.search(condition):
        raise ValueError("uses a comprehension; conditions compare values, they do not loop")
    try:
        program = parse(condition)
    except ValueError as error:
        raise ValueError(f"is not CEL: {str(error).partition('ERROR: ')[2].splitlines()[0] or error}") from None
    names = sorted(set(program.variables()) - VARIABLES.keys())
    calls = sorted(name for name in set(program.functions()) - FUNCTIONS if name.isidentifier() and not name.startswith("_"))
    if names or calls:
        raise ValueError(f"does not know {(names + calls)[0]!r}; allowed: {', '.join([*VARIABLES, *sorted(FUNCTIONS)])}")
    try:
        example = program.execute({name: value for name, (value, _) in VARIABLES.items()})
    except Exception as error:
        raise ValueError(f"cannot be evaluated: {str(error).splitlines()[0].split('. ')[0]}") from None
    if not isinstance(example, bool):
        raise ValueError("is not true or false")
    return program
