"""Keys on disk: made with mode 0600, and not read where others may. Knows nothing of what they are."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from leanto_cloud.errors import ConfigurationError
from leanto_cloud.whole_file import write_whole


def read_private(path: Path, make: Callable[[], bytes], what: str) -> bytes:
    """The bytes at `path`, or what `make` gives, written there. Raises ConfigurationError naming it as `what`."""
    try:
        if not path.exists():
            with suppress(FileExistsError):  # somebody else has just made one, and theirs counts
                write_whole(path, make(), replace=False)
        if path.stat().st_mode & 0o077:
            raise ConfigurationError(f"{path}: others may read {what}; chmod 600 it")
        return path.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{path}: {what} cannot be read, nor made there: {error.strerror}") from None
