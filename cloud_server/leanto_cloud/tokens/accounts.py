"""How many tokens an account may still have: a bearer key's hash and a number, in SQLite. Knows nothing of tokens."""

from __future__ import annotations

import hashlib
import secrets
import threading
from pathlib import Path

from leanto_cloud.database import open_database


class Accounts:
    """The file at `path`, made if it is missing. Thread-safe. Raises ConfigurationError where it cannot be opened."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        self._database = open_database(
            path,
            "the accounts",
            "CREATE TABLE IF NOT EXISTS account (key_hash BLOB PRIMARY KEY, tokens_left INTEGER NOT NULL) STRICT",
        )

    def open(self, tokens: int) -> str:
        """A new account's bearer key, which is not kept."""
        key = secrets.token_urlsafe(32)
        with self._lock:
            self._database.execute("INSERT INTO account VALUES (?, ?)", (_hash(key), tokens))
        return key

    def charge(self, key: str) -> bool:
        """Whether the account had a token left, which is gone now. Raises sqlite3.Error."""
        with self._lock:
            done = self._database.execute(
                "UPDATE account SET tokens_left = tokens_left - 1 WHERE key_hash = ? AND tokens_left > 0", (_hash(key),)
            )
        return done.rowcount == 1

    def close(self) -> None:
        """Close the file."""
        self._database.close()


def _hash(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()
