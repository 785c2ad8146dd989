"""Keys on disk: made with mode 0600, and not read where others may. Knows nothing of what they are."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from leanto_cloud.errors import ConfigurationError


def read_private(path: Path, make: Callable[[], bytes], what: str) -> bytes:
    """The bytes at `path`, or what `make` gives, written there. Raises ConfigurationError naming it as `what`."""
    try:
        if not path.exists():
            made = make()
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(made)
            return made
        if path.stat().st_mode & 0o077:
            raise ConfigurationError(f"{path}: others may read {what}; chmod 600 it")
        return path.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{path}: {what} cannot be read, nor made there: {error.strerror}") from None
