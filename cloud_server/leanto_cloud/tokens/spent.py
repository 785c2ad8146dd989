"""Which tokens were spent: SQLite with a write-ahead log, synced at every spending, in a process of its own.

The node itself may write no file at all; what it hands over a socket is a key id and a hash. A disk that is full, a file or a process
that is gone: nothing is taken. `python -m leanto_cloud.tokens.spent FILE` is that process.
"""

from __future__ import annotations

import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from leanto_cloud.database import open_database
from leanto_cloud.errors import CloudError, ConfigurationError

KEY_BYTES, MARK_BYTES = 32, 16
TIMEOUT_S = 5.0
KEPT_S = 86_400  # much longer than a request waits in line, or than the clocks of two nodes differ
_FOREVER = 1 << 62
_FRESH, _SPENT, _FAILED = b"+", b"-", b"!"


class StoreFailed(CloudError):
    """It cannot be said whether a token was spent."""


class Spent(Protocol):
    """A store of what was spent."""

    def add(self, key_id: bytes, mark: bytes) -> bool:
        """Whether it is new; it is kept by now. Raises StoreFailed."""
        ...

    def close(self) -> None:
        """Close it."""
        ...


class SpentFile:
    """The file at `path`, made if it is missing. Thread-safe. Raises ConfigurationError where it cannot be opened."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        self._database = open_database(
            path,
            "the store of spent tokens",
            "CREATE TABLE IF NOT EXISTS spent (key_id BLOB, mark BLOB, PRIMARY KEY (key_id, mark)) STRICT, WITHOUT ROWID",
            "CREATE TABLE IF NOT EXISTS key (key_id BLOB PRIMARY KEY, not_after INTEGER) STRICT, WITHOUT ROWID",
            wait_s=TIMEOUT_S / 2,
        )

    def know(self, keys: Mapping[bytes, int], now_s: float) -> None:
        """Write down until when each key's tokens count, and drop what was spent under keys that expired KEPT_S ago.

        Other nodes may still take tokens of keys that this one does not name, and their clocks differ. Raises ConfigurationError.
        """
        latest = "INSERT INTO key VALUES (?, ?) ON CONFLICT DO UPDATE SET not_after = max(not_after, excluded.not_after)"
        try:
            self._database.executemany(latest, [(key_id, max(0, min(not_after, _FOREVER))) for key_id, not_after in keys.items()])
            expired = "SELECT key_id FROM key WHERE not_after < ?"
            self._database.execute(f"DELETE FROM spent WHERE key_id IN ({expired})", (int(now_s - KEPT_S),))
        except sqlite3.Error as error:
            raise ConfigurationError(f"the store of spent tokens cannot be written: {error}") from None

    def add(self, key_id: bytes, mark: bytes) -> bool:
        """Whether it is new; it is on the disk by now. Raises StoreFailed."""
        try:
            with self._lock:
                self._database.execute("INSERT INTO spent VALUES (?, ?)", (key_id, mark))
        except sqlite3.IntegrityError:
            return False
        except sqlite3.Error:
            raise StoreFailed("the store of spent tokens cannot be written") from None
        return True

    def close(self) -> None:
        """Close the file."""
        self._database.close()


class SpentProcess:
    """The same in a process of its own, which ends with this one. Thread-safe."""

    def __init__(self, path: Path) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            command = [sys.executable, "-m", "leanto_cloud.tokens.spent", str(path)]
            self._process = subprocess.Popen(command, stdin=theirs.fileno(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        ours.settimeout(4 * TIMEOUT_S)
        self._socket = ours
        self._lock = threading.Lock()
        if self._answer() != _FRESH:
            self.close()
            raise ConfigurationError(f"{path}: the store of spent tokens cannot be opened")
        ours.settimeout(TIMEOUT_S)

    def add(self, key_id: bytes, mark: bytes) -> bool:
        """Whether it is new; it is on the disk by now. Raises StoreFailed, from then on always if no answer came in time."""
        with self._lock:
            try:
                self._socket.sendall(key_id + mark)
            except OSError:
                raise StoreFailed("the store of spent tokens is gone") from None
            answer = self._answer()
            if answer not in (_FRESH, _SPENT):
                if answer != _FAILED:
                    self._socket.close()  # an answer that comes late would be taken for the next one's
                raise StoreFailed("the store of spent tokens gave no answer")
        return answer == _FRESH

    def close(self) -> None:
        """End the process."""
        self._socket.close()
        self._process.wait()

    def _answer(self) -> bytes:
        try:
            return self._socket.recv(1)
        except OSError:
            return b""


def serve(connection: socket.socket, path: Path) -> None:
    """Answer until the other end is closed."""
    store = SpentFile(path)
    connection.sendall(_FRESH)
    size = KEY_BYTES + MARK_BYTES
    while len(asked := connection.recv(size, socket.MSG_WAITALL)) == size:
        try:
            connection.sendall(_FRESH if store.add(asked[:KEY_BYTES], asked[KEY_BYTES:]) else _SPENT)
        except StoreFailed:
            connection.sendall(_FAILED)


if __name__ == "__main__":
    serve(socket.socket(fileno=0), Path(sys.argv[1]))
