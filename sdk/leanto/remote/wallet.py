"""One-time tokens of one issuer, fetched ahead in batches and kept in a file; each is gone from it before it is used.

What the issuer signs cannot be linked to what is spent; so that its time tells nothing either, no fetch follows a single request: a
batch is fetched when half of the last one is spent, after a wait of chance. Knows nothing of nodes or seals. Imported where a target asks.
"""

from __future__ import annotations

import asyncio
import os
import random
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from leanto.clock import Clock
from leanto.errors import CloudUnavailable, TargetError
from leanto.remote.target import TokenSource
from leanto_wire.errors import TokenError
from leanto_wire.tokens.directory import MAX_BYTES, PATH, REQUEST_PATH, REQUEST_TYPE, IssuerKey, read_directory
from leanto_wire.tokens.privacy_pass import TokenChallenge, request_token

TIMEOUT_S = 10.0
LONGEST_WAIT_S = 60.0
_RANDOM = random.SystemRandom()


class TokenFile:
    """The file at `path`, made with mode 0600 if it is missing. Thread-safe, and may be shared. Raises TargetError."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
            self._database = sqlite3.connect(path, timeout=2.0, isolation_level=None, check_same_thread=False)
            self._database.execute("PRAGMA journal_mode = WAL")
            self._database.execute("PRAGMA synchronous = FULL")
            self._database.execute("CREATE TABLE IF NOT EXISTS token (challenge BLOB, token BLOB, not_after INTEGER) STRICT")
        except (OSError, sqlite3.Error, UnicodeDecodeError) as error:  # UnicodeDecodeError: SQLite's own words on a broken file
            raise TargetError(f"{path}: the tokens cannot be kept here: {error}") from None

    def put(self, challenge: bytes, token: bytes, not_after: int) -> None:
        """Keep it. Raises CloudUnavailable."""
        self._run("INSERT INTO token VALUES (?, ?, ?)", (challenge, token, not_after))

    def take(self, challenge: bytes, now_s: float) -> tuple[bytes | None, int]:
        """Any token that still counts, which is gone from the file now, and how many are left. Raises CloudUnavailable."""
        self._run("DELETE FROM token WHERE not_after <= ?", (int(now_s),))
        sound = "challenge = ? AND typeof(token) = 'blob' AND typeof(not_after) = 'integer'"  # whoever made the table
        chosen = f"SELECT rowid FROM token WHERE {sound} ORDER BY random() LIMIT 1"  # not in the order in which they were issued
        rows = self._run(f"DELETE FROM token WHERE rowid = ({chosen}) RETURNING token", (challenge,))
        left = self._run(f"SELECT count(*) FROM token WHERE {sound}", (challenge,))
        return (rows[0][0] if rows else None), left[0][0]

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def _run(self, statement: str, values: tuple[Any, ...]) -> list[Any]:
        try:
            with self._lock:
                return self._database.execute(statement, values).fetchall()
        except (sqlite3.Error, UnicodeDecodeError) as error:
            raise CloudUnavailable(f"{self._path}: the tokens kept here cannot be used: {error}") from None


class Wallet:
    """Of one target. Belongs to one event loop. Raises TargetError for an issuer that cannot be asked."""

    def __init__(
        self, source: TokenSource, clock: Clock, *, wait_s: Callable[[], float] = lambda: _RANDOM.uniform(0, LONGEST_WAIT_S)
    ) -> None:
        self._source = source
        self._clock = clock
        self._wait_s = wait_s
        self._challenge = TokenChallenge(source.name or host_of(source.issuer), source.origin)
        self._file = TokenFile(Path(source.store))
        self._fetching = asyncio.Lock()
        self._later: asyncio.Task[None] | None = None

    async def take(self) -> bytes:
        """A token for one attempt. Waits for the issuer only if there is none at all. Raises CloudUnavailable, TargetError."""
        token, left = await self._take()
        if token is None:
            async with self._fetching:
                token, left = await self._take()  # another request may have fetched some meanwhile
                if token is None:
                    await asyncio.to_thread(self.fetch)
                    token, left = await self._take()
        if token is None:
            raise CloudUnavailable(f"{self._source.issuer} gave no tokens that count now; check both clocks")
        if left < self._source.batch // 2 and (self._later is None or self._later.done()):
            self._later = asyncio.create_task(self._fetch_later())
        return token

    def fetch(self) -> None:
        """Fetch one batch now. Raises CloudUnavailable, TargetError."""
        account = os.environ.get(self._source.account_env, "")
        if not account:
            raise TargetError(f"the environment variable {self._source.account_env} holds no account key for {self._source.issuer}")
        issuer = self._source.issuer.rstrip("/")
        headers = {"User-Agent": "leanto"}
        try:
            with httpx.Client(timeout=TIMEOUT_S, trust_env=False, follow_redirects=False, headers=headers) as http:
                key = self._choose(self._read(http, "GET", issuer + PATH))
                for _ in range(self._source.batch):
                    self._fetch_one(http, issuer + REQUEST_PATH, account, key)
        except httpx.HTTPError as error:
            raise CloudUnavailable(f"{issuer} gives no tokens ({type(error).__name__})", retryable=True) from None

    async def close(self) -> None:
        """Fetch no more, and close the file."""
        if self._later is not None:
            self._later.cancel()
            await asyncio.gather(self._later, return_exceptions=True)
        async with self._fetching:
            self._file.close()

    async def _take(self) -> tuple[bytes | None, int]:
        return await asyncio.to_thread(self._file.take, self._challenge.digest, self._clock.wall())

    async def _fetch_later(self) -> None:
        await asyncio.sleep(self._wait_s())
        async with self._fetching:
            await asyncio.gather(asyncio.to_thread(self.fetch), return_exceptions=True)  # whoever finds none left is told why

    def _choose(self, directory: bytes) -> IssuerKey:
        """The newest key that counts and that the policy has not ruled out: a key for one client alone would mark it."""
        try:
            found = read_directory(directory)
        except ValueError as error:
            raise CloudUnavailable(f"{self._source.issuer}: {error}") from None
        now_s, pinned = self._clock.wall(), self._source.keys
        for key in found.keys:
            if key.valid(now_s) and (not pinned or key.public.key_id.hex() in pinned):
                return key
        raise CloudUnavailable(f"{self._source.issuer} has no key that counts now and that the policy names")

    def _fetch_one(self, http: httpx.Client, url: str, account: str, key: IssuerKey) -> None:
        pending = request_token(self._challenge, key.public)
        headers = {"Content-Type": REQUEST_TYPE, "Authorization": f"Bearer {account}"}
        answer = self._read(http, "POST", url, content=pending.request, headers=headers)
        try:
            token = pending.finish(answer)
        except TokenError as error:
            raise CloudUnavailable(f"{self._source.issuer}: {error}") from None
        self._file.put(self._challenge.digest, token.encode(), key.not_after)

    def _read(self, http: httpx.Client, method: str, url: str, **more: object) -> bytes:
        """The answer's body. Raises CloudUnavailable for another status than 200, or for too long a body."""
        raw = b""
        with http.stream(method, url, **more) as response:  # type: ignore[arg-type]  # content and headers
            if response.status_code == 401:
                raise CloudUnavailable(f"{self._source.issuer} does not know the account, or it has no tokens left")
            if response.status_code != 200:
                raise CloudUnavailable(f"{self._source.issuer} answered {response.status_code}", retryable=response.status_code >= 500)
            for part in response.iter_raw():
                raw += part
                if len(raw) > MAX_BYTES:
                    raise CloudUnavailable(f"{self._source.issuer} sent too much")
        return raw


def host_of(url: str) -> str:
    """The host that an issuer's URL names."""
    return urlsplit(url).hostname or url
