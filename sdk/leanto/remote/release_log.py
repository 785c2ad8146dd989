"""The release log as a client sees it: a node's release must stand in it, and it may only have grown since this client looked last.

The last checkpoint is kept in a file, which several processes may share: whoever writes compares with it again, under a lock. Two that
cannot both be true are kept beside it, as proof. Tiles come from the log itself, so no node learns which checkpoint a client holds.
Imported only where a target names a log.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from filelock import FileLock, Timeout

from leanto.errors import TargetError
from leanto.remote.fetch import Unfetched, fetch, open_transport
from leanto.remote.target import ReleaseLog, checked_url
from leanto_wire.claims import Claim, Claims
from leanto_wire.errors import EvidenceError, LogError
from leanto_wire.log.checkpoint import Checkpoint, parse_checkpoint
from leanto_wire.log.note import Verifier
from leanto_wire.log.release import LogPolicy, Rollback, SplitView, verify_release
from leanto_wire.log.tiles import Fetch
from leanto_wire.v1.private_compute_pb2 import ReleaseProof

TIMEOUT_S = 5.0  # for all the tiles of one check
LOCK_S = 5.0  # to read and write one small file takes milliseconds
MAX_TILE_BYTES = 64 << 10


class LogReader:
    """Of one target. Raises TargetError for keys that are none."""

    def __init__(self, log: ReleaseLog) -> None:
        try:
            self._policy = LogPolicy(Verifier.parse(log.key), tuple(map(Verifier.parse, log.witnesses)), log.quorum)
        except ValueError as error:
            raise TargetError(f"the release log: {error}") from None
        self._store = Path(log.store)
        self._tiles = None if log.tiles is None else checked_url(log.tiles, "release log").rstrip("/")

    def check(self, proof: ReleaseProof, claims: Claims) -> Claims:
        """The claims, and one more. Reads and writes files, and may fetch tiles; for a thread of its own. Raises EvidenceError."""
        fetch_tile = self._fetch_until(time.monotonic() + TIMEOUT_S) if self._tiles else None
        stored = self._load()
        while True:
            checkpoint = self._verified(proof, claims.release_digest, stored, fetch_tile)
            with self._locked():  # not while tiles are fetched: a log that dawdles would hold up every other process
                seen, stored = stored, self._load()
                if stored == seen:
                    if stored is None or checkpoint.size > stored.size:
                        self._write(self._store, proof.checkpoint)
                    return replace(claims, claims=(*claims.claims, self._claim(checkpoint)))

    def _verified(self, proof: ReleaseProof, digest: bytes, stored: Checkpoint | None, fetch_tile: Fetch | None) -> Checkpoint:
        try:
            return verify_release(proof, digest, self._policy, stored, fetch_tile)
        except (Rollback, SplitView) as error:
            self._write(self._store.with_suffix(f"{self._store.suffix}.conflict"), proof.checkpoint)
            raise EvidenceError("log", f"{error}; both checkpoints are kept at {self._store}") from None
        except LogError as error:
            raise EvidenceError("log", str(error)) from None

    def _claim(self, checkpoint: Checkpoint) -> Claim:
        names = tuple(witness.name for witness in self._policy.witnesses)
        return Claim(
            "release log",
            f"{checkpoint.origin}, {checkpoint.size} entries",
            "every reader of this log can see this release, and it has not been rewritten since this client looked last",
            "that the release is a good one: somebody must read it",
            (f"the key of {checkpoint.origin}", *(f"{self._policy.quorum} of {', '.join(names)}",) * bool(self._policy.quorum)),
        )

    def _load(self) -> Checkpoint | None:
        try:
            return parse_checkpoint(self._store.read_bytes())[0]
        except FileNotFoundError:
            return None
        except (LogError, OSError) as error:
            raise EvidenceError(
                "log", f"{self._store}: the checkpoint kept here cannot be read ({error}); look at it before removing it"
            ) from None

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """The store is this reader's alone."""
        lock = FileLock(self._store.with_suffix(f"{self._store.suffix}.lock"), timeout=LOCK_S)
        try:
            self._store.parent.mkdir(parents=True, exist_ok=True)
            lock.acquire()
        except (OSError, Timeout) as error:
            raise EvidenceError("log", f"{self._store}: the checkpoint kept here cannot be locked ({type(error).__name__})") from None
        try:
            yield
        finally:
            lock.release()

    def _write(self, path: Path, content: bytes) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".checkpoint-", delete=False) as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(file.name, path)
        except OSError as error:
            raise EvidenceError("log", f"{path}: the checkpoint cannot be kept: {error.strerror}") from None

    def _fetch_until(self, until: float) -> Fetch:
        async def tile(path: str) -> tuple[int, bytes]:
            async with open_transport() as transport:
                left_s = until - time.monotonic()
                return await fetch(transport, "GET", f"{self._tiles}/{path}", most_bytes=MAX_TILE_BYTES, timeout_s=left_s)

        def fetch_tile(path: str) -> bytes:
            try:
                status, body = asyncio.run(tile(path))
            except Unfetched as error:
                raise LogError(f"the log's tiles cannot be fetched ({error})") from None
            if status != 200:
                raise LogError(f"the log has no {path}")
            return body

        return fetch_tile
