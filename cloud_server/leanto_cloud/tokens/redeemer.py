"""Takes each token once. It is written down as spent before anything is opened: whoever crashes in between has lost it.

Knows nothing of requests, or of where the spent ones are kept.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from leanto_cloud.errors import ConfigurationError, Refused
from leanto_cloud.tokens.spent import MARK_BYTES, Spent, SpentFile, SpentProcess, StoreFailed
from leanto_wire.errors import TokenError
from leanto_wire.status import Refusal
from leanto_wire.tokens.directory import Directory, IssuerKey, read_directory
from leanto_wire.tokens.privacy_pass import Token, TokenChallenge


class Redeemer:
    """Takes tokens for `challenge` signed by one of `keys` while it counts, and remembers them in `spent`."""

    def __init__(
        self, challenge: TokenChallenge, keys: Iterable[IssuerKey], spent: Spent, *, now_s: Callable[[], float] = time.time
    ) -> None:
        self._challenge = challenge
        self._keys = {key.public.key_id: key for key in keys}
        self._spent = spent
        self._now_s = now_s

    def check(self, raw: bytes) -> Token:
        """The token, not spent yet by this. Raises Refused: none, or one that does not hold here and now."""
        if not raw:
            raise Refused(Refusal.TOKEN_MISSING)
        try:
            token = Token.parse(raw)
            token.verify(self._key_of(token).public, self._challenge)
        except TokenError:
            raise Refused(Refusal.TOKEN_INVALID) from None
        return token

    def spend(self, token: Token) -> None:
        """Write it down. Raises Refused if it was spent before, or if that cannot be known, as when its key expired while it waited."""
        try:
            self._key_of(token)
            new = self._spent.add(token.key_id, hashlib.sha256(token.nonce).digest()[:MARK_BYTES])
        except TokenError:
            raise Refused(Refusal.TOKEN_INVALID) from None
        except StoreFailed:
            raise Refused(Refusal.INTERNAL) from None
        if not new:
            raise Refused(Refusal.TOKEN_SPENT)

    def close(self) -> None:
        """Close the store."""
        self._spent.close()

    def _key_of(self, token: Token) -> IssuerKey:
        key = self._keys.get(token.key_id)
        if key is None or not key.valid(self._now_s()):
            raise TokenError("the token was signed by a key that does not count here and now")
        return key


def open_redeemer(directory: Path, origin: str, store: Path) -> Redeemer:
    """A redeemer by an issuer's directory in a file, its store in a process of its own. Raises ConfigurationError."""
    found = read_issuer(directory)
    file = SpentFile(store)
    file.know({key.public.key_id: key.not_after for key in found.keys}, time.time())
    file.close()
    return Redeemer(TokenChallenge(found.issuer, origin), found.keys, SpentProcess(store))


def read_issuer(path: Path) -> Directory:
    """An issuer's directory in a file. Raises ConfigurationError."""
    try:
        return read_directory(path.read_bytes())
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise ConfigurationError(f"{path}: {error}; `leanto-cloud issuer keys` writes one") from None
