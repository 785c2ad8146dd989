"""Whether two answers say the same, and what else may be held against a local one. Knows nothing of models."""

from __future__ import annotations

import json
from typing import Any

DISAGREEMENT = "disagreement"  # the one event that an audit sees; an answer worse than the cloud's always is one, so it bounds these too
EVENTS = {  # what a certificate may bound, as "at most 5 % of the answers …"
    DISAGREEMENT: "say something else than the cloud's",
    "worse": "are worse than the cloud's",
    "wrong": "are wrong",
}


def same(text: str, completion: Any) -> bool:
    """JSON by its values, in any order and case; other text by its words."""
    return bool(_plain(text) == _plain(completion))


def _plain(value: Any) -> Any:
    """Lower case, single spaces; a JSON object as such, with one value in a list the same as the value."""
    if isinstance(value, str):
        try:
            parsed = json.loads(value)
        except (ValueError, RecursionError):
            parsed = None
        return _plain(parsed) if isinstance(parsed, dict) else " ".join(value.lower().split())
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items() if inner != {}}
    if isinstance(value, list):
        plain = [_plain(inner) for inner in value]
        return plain[0] if len(plain) == 1 else plain
    return value
