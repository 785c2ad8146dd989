"""Rules of one's own: a condition, and which targets may answer, or should, where it holds. Checked when the policy is read.

Knows nothing of how a condition is evaluated, or of what is left of the targets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from leanto.decision import Target
from leanto.policy.condition import compiled, tokens
from leanto.policy.verdict import TARGETS

if TYPE_CHECKING:
    from cel import Program

KEYS = ("name", "if", "allow", "prefer", "unknown")
MAX_NAME_CHARS = 100


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

    def __hash__(self) -> int:
        return hash(self.name)  # cheap: a decision looks up what a rule does

    def applies(self, holds: bool | None) -> bool:
        """What follows from the condition's value; None where it has none."""
        return self.unknown == "apply" if holds is None else holds

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
    if not isinstance(name, str) or not name.strip() or len(name) > MAX_NAME_CHARS or any(name == rule.name for rule in before):
        raise RuleFault("name", f"must be a text of its own of at most {MAX_NAME_CHARS} characters: a decision cites the rule by it")
    if not isinstance(condition, str):
        raise RuleFault("if", 'must be a CEL condition such as "prompt_tokens > 300"')
    if (allow is None) == (prefer is None):
        raise RuleFault("allow", 'or prefer: give one of them, allow = ["local"] or prefer = "cloud"')
    if prefer not in (None, *TARGETS):
        raise RuleFault("prefer", 'must be "local" or "cloud"')
    if allow is not None and (not isinstance(allow, list) or not allow or any(target not in TARGETS for target in allow)):
        raise RuleFault("allow", 'must be a list of "local" and "cloud"')
    allowed: tuple[Target, ...] = tuple(target for target in TARGETS if target in (allow or ()))
    unknown = entry.get("unknown", "apply" if allow else "skip")
    if unknown not in ("apply", "skip"):
        raise RuleFault("unknown", 'must be "apply" or "skip"')
    try:
        found = Rule(name, condition, allow=allowed, prefer=prefer, unknown=unknown, program=compiled(condition))
    except ValueError as error:
        raise RuleFault("if", str(error)) from None
    for rule in before:
        if opposed(rule, found) and tokens(rule.condition) == tokens(condition):
            raise RuleFault("allow", f"contradicts the rule {rule.name!r}: together they leave nothing that could answer")
    return found


def opposed(one: Rule, other: Rule) -> bool:
    """Whether both together would leave nothing that could answer."""
    return bool(one.allow and other.allow) and not set(one.allow) & set(other.allow)
