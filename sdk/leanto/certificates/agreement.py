"""Whether two answers say the same: what labels a local answer where only the cloud's is known. Knows nothing of models."""

from __future__ import annotations

import json
from typing import Any


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
