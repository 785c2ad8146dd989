"""Takes each token once. It is written down as spent before anything is opened: whoever crashes in between has lost it.

SQLite with a write-ahead log, synced at every spending; a disk that is full, or a file that is gone, takes no token at all. Knows nothing
of requests.
"""

from __future__ import annotations

import hashlib
import sqlite3
import threading
from collections.abc import Iterable
from pathlib import Path

from leanto_cloud.errors import ConfigurationError, Refused
from leanto_wire.errors import TokenError
from leanto_wire.status import Refusal
from leanto_wire.tokens.privacy_pass import PublicKey, Token, TokenChallenge


class Redeemer:
    """Takes tokens for `challenge` signed by one of `keys`, and remembers them at `path`. Raises ConfigurationError.

    What was spent under a key that is no longer named is forgotten, and its tokens are refused from then on.
    """

    def __init__(self, challenge: TokenChallenge, keys: Iterable[PublicKey], path: Path) -> None:
        self._challenge = challenge
        self._keys = {key.key_id: key for key in keys}
        self._lock = threading.Lock()
        try:
            self._database = sqlite3.connect(path, timeout=1.0, isolation_level=None, check_same_thread=False)
            self._database.execute("PRAGMA journal_mode = WAL")
            self._database.execute("PRAGMA synchronous = FULL")
            self._database.execute(
                "CREATE TABLE IF NOT EXISTS spent (key_id BLOB, mark BLOB, PRIMARY KEY (key_id, mark)) STRICT, WITHOUT ROWID"
            )
            named = ", ".join("?" * len(self._keys))
            self._database.execute(f"DELETE FROM spent WHERE key_id NOT IN ({named})", tuple(self._keys))
        except sqlite3.Error as error:
            raise ConfigurationError(f"{path}: the store of spent tokens cannot be opened: {error}") from None

    def redeem(self, raw: bytes) -> None:
        """Spend the token. Raises Refused: none, one that does not hold, or one that was spent before."""
        if not raw:
            raise Refused(Refusal.TOKEN_MISSING)
        try:
            token = Token.parse(raw)
            key = self._keys.get(token.key_id)
            if key is None:
                raise TokenError("the token was signed by a key that is not named here")
            token.verify(key, self._challenge)
        except TokenError:
            raise Refused(Refusal.TOKEN_INVALID) from None
        mark = hashlib.sha256(token.nonce).digest()[:16]
        try:
            with self._lock:
                self._database.execute("INSERT INTO spent VALUES (?, ?)", (token.key_id, mark))
        except sqlite3.IntegrityError:
            raise Refused(Refusal.TOKEN_SPENT) from None
        except sqlite3.Error:
            raise Refused(Refusal.INTERNAL) from None

    def close(self) -> None:
        """Close the store."""
        self._database.close()
