"""The reference of the policy file as Markdown tables, from the code that reads it; docs/policy.md holds them between cog's markers.

Every table is asked of the readers themselves, so that it cannot say what they do not take. Knows nothing of the page around it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import Field, fields
from typing import Any

from leanto.policy.condition import FUNCTIONS, VARIABLES
from leanto.policy.evidence import TYPES, NvidiaEvidence
from leanto.policy.figures import Figures
from leanto.policy.schema import (
    Audit,
    Budgets,
    CloudTarget,
    ConfidenceThreshold,
    Handoff,
    Offline,
    Privacy,
    Quality,
    RelayTarget,
    ReleaseLogTarget,
    TokensTarget,
)

TABLES: dict[str, type[Any]] = {
    "targets.cloud": CloudTarget,
    "targets.cloud.log": ReleaseLogTarget,
    "targets.cloud.tokens": TokensTarget,
    "targets.cloud.relay": RelayTarget,
    "targets.cloud.evidence.nvidia": NvidiaEvidence,
    "privacy": Privacy,
    "budgets": Budgets,
    "quality.confidence_threshold": ConfidenceThreshold,
    "quality": Quality,
    "handoff": Handoff,
    "offline": Offline,
    "audit": Audit,
}


def options(table: str, kind: str = "") -> str:
    """Every name of `table`, a key of TABLES, or of evidence of a `kind`: its default as written, what it takes, and what it means."""
    rows = [_row(option) for option in fields(TYPES[kind] if kind else TABLES[table]) if "read" in option.metadata]
    return _markdown(("name", "default", "takes", "meaning"), rows)


def variables() -> str:
    """What the condition of a rule may compare."""
    rows = [(f"`{name}`", _kind(example), about) for name, (example, about) in VARIABLES.items()]
    return _markdown(("variable", "type", "meaning"), rows)


def functions() -> str:
    """What it may call."""
    return ", ".join(f"`{name}`" for name in sorted(FUNCTIONS))


def figures() -> str:
    """What a replay tells, and a claim may name."""
    return ", ".join(f"`{option.name}`" for option in fields(Figures))


def default_of(option: Field[Any]) -> str:
    """As it would be written, in code marks; "required", or "none" where nothing stands for it."""
    word = re.search(r", or '(\w+)'$", _expected(option))
    if option.default is None:
        return f'`"{word[1]}"`' if word else "none"
    written = json.dumps(option.default)
    try:
        option.metadata["read"](json.loads(written))
    except ValueError:
        return "required"
    return f"`{written}`"


def _row(option: Field[Any]) -> tuple[str, str, str, str]:
    return f"`{option.name}`", default_of(option), _expected(option).replace("'", '"'), option.metadata["doc"]


def _expected(option: Field[Any]) -> str:
    """What the reader says when it is given something that nothing takes."""
    try:
        option.metadata["read"](object())
    except ValueError as error:
        return str(error).removeprefix("expected ")
    raise AssertionError(f"the reader of {option.name} takes anything")


def _kind(example: Any) -> str:
    return {bool: "bool", int: "int", float: "double", str: "string"}[type(example)]


def _markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join("| " + " | ".join(line) + " |" for line in (head, ["---"] * len(head), *rows))
