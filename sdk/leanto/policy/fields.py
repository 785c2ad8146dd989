"""What one name of a policy may hold: small checks that turn a TOML value into a Python one or say what was expected.

Knows nothing of which names exist.
"""

from __future__ import annotations

import base64
import binascii
import math
import re
from collections.abc import Callable
from dataclasses import field
from typing import Any

Reader = Callable[[Any], Any]  # raises ValueError("expected …")

_ADDRESS = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):(\d{1,5})")


def option(default: Any, read: Reader, doc: str) -> Any:
    """A dataclass field with the reader of its TOML value and one line for docs/policy.md."""
    return field(default=default, metadata={"read": read, "doc": doc})


def integer(low: int, high: int) -> Reader:
    """A whole number in [low, high]."""

    def read(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise ValueError(f"expected a whole number from {low} to {high}")
        return value

    return read


def integers(low: int, high: int) -> Reader:
    """A list of whole numbers in [low, high], at least one."""

    def read(value: Any) -> tuple[int, ...]:
        if not isinstance(value, list | tuple) or not value:
            raise ValueError(f"expected a list of whole numbers from {low} to {high}")
        return tuple(integer(low, high)(item) for item in value)

    return read


def number(low: float, high: float) -> Reader:
    """A finite number in [low, high]."""

    def read(value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or not low <= value <= high:
            raise ValueError(f"expected a number from {low:g} to {high:g}")
        return float(value)

    return read


def choice(*allowed: str) -> Reader:
    """One of a few words."""

    def read(value: Any) -> str:
        if not isinstance(value, str) or value not in allowed:
            raise ValueError(f"expected one of {', '.join(map(repr, allowed))}")
        return value

    return read


def word_or(word: str, read: Reader, meaning: Any) -> Reader:
    """A word that stands for `meaning`, or what `read` accepts."""

    def read_either(value: Any) -> Any:
        if value == word:
            return meaning
        try:
            return read(value)
        except ValueError as error:
            raise ValueError(f"{error}, or {word!r}") from None

    return read_either


def flag(value: Any) -> bool:
    """true or false."""
    if not isinstance(value, bool):
        raise ValueError("expected true or false")
    return value


def text(value: Any) -> str:
    """A non-empty string."""
    if not isinstance(value, str) or not value:
        raise ValueError("expected a text")
    return value


def texts(value: Any) -> tuple[str, ...]:
    """A list of non-empty strings."""
    if not isinstance(value, list | tuple) or not all(isinstance(item, str) and item for item in value):
        raise ValueError("expected a list of texts")
    return tuple(value)


def address(value: Any) -> str:
    """host:port."""
    match = _ADDRESS.fullmatch(value) if isinstance(value, str) else None
    if match is None or not 1 <= int(match[2]) <= 65535:
        raise ValueError('expected "host:port"')
    return str(value)


def public_key(value: Any) -> str:
    """Base64 of 32 bytes: an Ed25519 public key."""
    try:
        if len(base64.b64decode(value, validate=True)) == 32:
            return str(value)
    except (binascii.Error, TypeError, ValueError):
        pass
    raise ValueError("expected the base64 of a 32-byte public key")
