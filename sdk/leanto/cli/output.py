"""Files that a command makes: new ones only, nothing is ever written over."""

from __future__ import annotations

from pathlib import Path

from leanto.errors import OutputError


def check_new(path: str) -> None:
    """Raise OutputError if there is something at `path` already: said before the work, not after it."""
    if Path(path).exists():
        raise OutputError(f"{path}: already exists; remove it or choose another place", path=path)


def write_new(path: str, text: str) -> None:
    """Write a file that was not there. Raises OutputError."""
    try:
        with Path(path).open("x", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror})", path=path) from None
