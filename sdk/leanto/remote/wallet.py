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
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from leanto.clock import Clock
from leanto.errors import CloudUnavailable, TargetError
from leanto.remote.fetch import Unfetched, fetch, open_transport
from leanto.remote.target import TokenSource, checked_url
from leanto_wire.errors import TokenError
from leanto_wire.tokens.directory import MAX_BYTES, PATH, REQUEST_PATH, REQUEST_TYPE, IssuerKey, read_directory
from leanto_wire.tokens.privacy_pass import TokenChallenge, request_token

TIMEOUT_S = 10.0  # for each exchange with the issuer
LONGEST_WAIT_S = 60.0
_RANDOM = random.SystemRandom()


@dataclass(frozen=True, slots=True)
class Kept:
    """A token that counts until before `not_after` (seconds since the epoch)."""

    token: bytes = field(repr=False)
    not_after: int


class TokenFile:
    """The file at `path`, made with mode 0600 if it is missing. Thread-safe, and may be shared. Raises TargetError."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
            self._database = sqlite3.connect(path, timeout=2.0, isolation_level=None, check_same_thread=False)
            self._database.execute("PRAGMA journal_mode = DELETE")  # a log of writes would keep what was spent
            self._database.execute("PRAGMA secure_delete = ON")
            self._database.execute("PRAGMA synchronous = FULL")
            self._database.execute("CREATE TABLE IF NOT EXISTS token (challenge BLOB, token BLOB, not_after INTEGER) STRICT")
        except (OSError, sqlite3.Error) as error:
            raise TargetError(f"{path}: the tokens cannot be kept here: {error}") from None

    def put(self, challenge: bytes, kept: Kept) -> None:
        """Keep it. Raises CloudUnavailable."""
        self._run("INSERT INTO token VALUES (?, ?, ?)", (challenge, kept.token, kept.not_after))

    def take(self, challenge: bytes, now_s: float) -> tuple[Kept | None, int]:
        """Any token that still counts, of which no byte is left in the file now, and how many are left. Raises CloudUnavailable."""
        self._run("DELETE FROM token WHERE not_after <= ?", (int(now_s),))
        chosen = "SELECT rowid FROM token WHERE challenge = ? ORDER BY random() LIMIT 1"  # not in the order in which they were issued
        rows = self._run(f"DELETE FROM token WHERE rowid = ({chosen}) RETURNING token, not_after", (challenge,))
        left = self._run("SELECT count(*) FROM token WHERE challenge = ?", (challenge,))
        return (Kept(*rows[0]) if rows else None), left[0][0]

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def _run(self, statement: str, values: tuple[Any, ...]) -> list[Any]:
        try:
            with self._lock:
                return self._database.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            raise CloudUnavailable(f"{self._path}: the tokens kept here cannot be used: {error}") from None


class Wallet:
    """Of one target. Belongs to one event loop. Raises TargetError for an issuer that cannot be asked.

    Whoever waits for a token may stop waiting at any time: the fetch goes on by itself, and a token that nobody got goes back.
    """

    def __init__(
        self, source: TokenSource, clock: Clock, *, wait_s: Callable[[], float] = lambda: _RANDOM.uniform(0, LONGEST_WAIT_S)
    ) -> None:
        self._source = source
        self._issuer = checked_url(source.issuer, "issuer").rstrip("/")
        self._clock = clock
        self._wait_s = wait_s
        self._challenge = TokenChallenge(source.name or host_of(source.issuer), source.origin)
        self._file = TokenFile(Path(source.store))
        self._turn = asyncio.Lock()
        self._fetching: asyncio.Task[None] | None = None
        self._later: asyncio.Task[None] | None = None
        self._returning: set[asyncio.Task[None]] = set()

    async def take(self) -> bytes:
        """A token for one attempt. Waits for the issuer only if there is none at all. Raises CloudUnavailable, TargetError."""
        async with self._turn:  # or another would take what this one has waited for
            token, left = await self._take()
            if token is None:
                await asyncio.shield(self._fetch_once())
                token, left = await self._take()
        if token is None:
            raise CloudUnavailable(f"{self._source.issuer} gave no tokens that count now; check both clocks")
        if left < self._source.batch // 2 and (self._later is None or self._later.done()):
            self._later = asyncio.create_task(self._fetch_later())
        return token

    async def fetch(self) -> None:
        """Fetch one batch now. Raises CloudUnavailable, TargetError."""
        account = os.environ.get(self._source.account_env, "")
        if not account:
            raise TargetError(f"the environment variable {self._source.account_env} holds no account key for {self._source.issuer}")
        async with open_transport() as transport:
            key = self._choose(await self._read(transport, "GET", PATH))
            for _ in range(self._source.batch):
                await self._fetch_one(transport, account, key)

    async def close(self) -> None:
        """Fetch no more, and close the file."""
        fetches = [task for task in (self._later, self._fetching) if task is not None]
        for task in fetches:
            task.cancel()
        await asyncio.gather(*fetches, *self._returning, return_exceptions=True)
        self._file.close()

    async def _take(self) -> tuple[bytes | None, int]:
        """From the file, in a thread. Whoever is cancelled meanwhile leaves the token to the next."""
        taking = asyncio.create_task(asyncio.to_thread(self._file.take, self._challenge.digest, self._clock.wall()))
        try:
            taken, left = await asyncio.shield(taking)
        except asyncio.CancelledError:
            returning = asyncio.create_task(self._give_back(taking))
            self._returning.add(returning)
            returning.add_done_callback(self._returning.discard)
            raise
        return (None if taken is None else taken.token), left

    async def _give_back(self, taking: asyncio.Task[tuple[Kept | None, int]]) -> None:
        await asyncio.wait([taking])
        if taking.exception() is None and (taken := taking.result()[0]) is not None:
            await asyncio.to_thread(self._file.put, self._challenge.digest, taken)

    def _fetch_once(self) -> asyncio.Task[None]:
        """The fetch under way, or a new one."""
        if self._fetching is None or self._fetching.done():
            self._fetching = asyncio.create_task(self.fetch())
            self._fetching.add_done_callback(_heard)
        return self._fetching

    async def _fetch_later(self) -> None:
        await asyncio.sleep(self._wait_s())
        await asyncio.gather(self._fetch_once(), return_exceptions=True)  # whoever finds none left is told why

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

    async def _fetch_one(self, transport: httpx.AsyncBaseTransport, account: str, key: IssuerKey) -> None:
        pending = await asyncio.to_thread(request_token, self._challenge, key.public)
        headers = {"Content-Type": REQUEST_TYPE, "Authorization": f"Bearer {account}"}
        answer = await self._read(transport, "POST", REQUEST_PATH, content=pending.request, headers=headers)
        try:
            token = await asyncio.to_thread(pending.finish, answer)
        except TokenError as error:
            raise CloudUnavailable(f"{self._source.issuer}: {error}") from None
        await asyncio.to_thread(self._file.put, self._challenge.digest, Kept(token.encode(), key.not_after))

    async def _read(
        self, transport: httpx.AsyncBaseTransport, method: str, path: str, *, content: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> bytes:
        """The answer's body. Raises CloudUnavailable for another status than 200, or for too much of it, or too late."""
        url = self._issuer + path
        try:
            status, body = await fetch(transport, method, url, most_bytes=MAX_BYTES, timeout_s=TIMEOUT_S, headers=headers, content=content)
        except Unfetched as error:
            raise CloudUnavailable(f"{self._source.issuer} gives no tokens ({error})", retryable=True) from None
        if status == 401:
            raise CloudUnavailable(f"{self._source.issuer} does not know the account, or it has no tokens left")
        if status != 200:
            raise CloudUnavailable(f"{self._source.issuer} answered {status}", retryable=status >= 500)
        return body


def host_of(url: str) -> str:
    """The host that an issuer's URL names."""
    return urlsplit(url).hostname or url


def _heard(task: asyncio.Task[None]) -> None:
    """Take its exception, so that asyncio does not report a fetch that nobody waits for any more."""
    if not task.cancelled():
        task.exception()
