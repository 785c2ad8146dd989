"""Single values of a policy from elsewhere than its file: the environment, then the command line. Later ones win.

LEANTO_POLICY__BUDGETS__DEADLINE_MS=5000 and --set budgets.deadline_ms=5000 say the same. Knows nothing of which names exist.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from leanto.errors import PolicyError

PREFIX = "LEANTO_POLICY__"


@dataclass(frozen=True, slots=True)
class Override:
    """A value for the name `path`; `origin` says where it was given."""

    path: tuple[str, ...]
    value: Any
    origin: str


def from_environment(environment: Mapping[str, str]) -> tuple[Override, ...]:
    """Those in variables that begin with LEANTO_POLICY__, two underscores between tables and names."""
    found = ((name, text) for name, text in sorted(environment.items()) if name.startswith(PREFIX))
    paths = ((name, tuple(name.removeprefix(PREFIX).lower().split("__")), text) for name, text in found)
    return tuple(Override(path, _value(text), f"environment {name}") for name, path, text in paths)


def from_arguments(texts: Iterable[str]) -> tuple[Override, ...]:
    """Those written name=value. Raises PolicyError."""
    found = []
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not all(name.split(".")):
            raise PolicyError(f"--set {text}: write table.name=value, such as budgets.deadline_ms=5000", file="command line")
        found.append(Override(tuple(name.strip().split(".")), _value(value), f"--set {name}"))
    return tuple(found)


def apply(document: dict[str, Any], overrides: Iterable[Override]) -> None:
    """Write each into the parsed file. Raises PolicyError for a name below one that is no table."""
    for override in overrides:
        table = document
        for part in override.path[:-1]:
            table = table.setdefault(part, {})
            if not isinstance(table, dict):
                raise PolicyError(f"{'.'.join(override.path)}: {part} is no table", file=override.origin)
        table[override.path[-1]] = override.value


def _value(text: str) -> Any:
    """As TOML, or, where it is none, as a text: words need no quotes."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):  # no TOML, or more digits or brackets than Python takes
        return text
