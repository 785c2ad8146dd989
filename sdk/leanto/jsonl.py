"""Labelled examples, one JSON object a line. Knows nothing of what a line must hold."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from leanto.errors import UserError

T = TypeVar("T")


def read_rows(path: str | Path, parse: Callable[[dict[str, Any]], T], *, form: str, error: type[UserError]) -> list[T]:
    """What `parse` makes of every line that is not blank.

    `parse` raises ValueError, TypeError, KeyError or OverflowError for an object of another form; then `error` is raised, naming the line.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError):
        raise error(f"{path}: cannot be read; give a file with {form}") from None
    found = []
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                found.append(parse(_object(line)))
            except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
                raise error(f"{path}:{number}: expected {form}") from None
    return found


def _object(line: str) -> dict[str, Any]:
    row = json.loads(line)
    if not isinstance(row, dict):
        raise TypeError
    return row
