"""SQLite as our servers keep what must not be lost: a file for this user alone, every commit on the disk. Knows nothing of tables."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

from leanto_cloud.errors import ConfigurationError


def open_database(path: Path, what: str, *tables: str, wait_s: float = 5.0) -> sqlite3.Connection:
    """The database at `path`, made with mode 0600 and these tables where it is missing, for use by any thread.

    Another process that writes is waited for. Raises ConfigurationError, naming it as `what`.
    """
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))  # SQLite gives the files beside it the mode of this one
        database = sqlite3.connect(path, timeout=wait_s, isolation_level=None, check_same_thread=False)
        for statement in ("PRAGMA journal_mode = WAL", "PRAGMA synchronous = FULL", *tables):
            database.execute(statement)
    except (OSError, sqlite3.Error) as error:
        raise ConfigurationError(f"{path}: {what} cannot be opened: {error}") from None
    return database
