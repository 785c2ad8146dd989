"""JSON of others, read strictly: bounded, one meaning for each name, no numbers that are none. Knows nothing of what it says."""

from __future__ import annotations

import json
from typing import Any, NoReturn

MAX_BYTES = 128 * 1024


def parse_json(raw: bytes) -> Any:
    """The value. Raises ValueError for anything that is not one plain JSON text."""
    if len(raw) > MAX_BYTES:
        raise ValueError("too long")
    try:
        return json.loads(raw.decode("utf-8"), object_pairs_hook=_no_repeats, parse_constant=_refuse)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def parse_object(raw: bytes) -> dict[str, Any]:
    """The same for an object. Raises ValueError."""
    value = parse_json(raw)
    if not isinstance(value, dict):
        raise ValueError("not an object")
    return value


def _no_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name is repeated")
    return found


def _refuse(_: str) -> NoReturn:
    raise ValueError("not a number")
