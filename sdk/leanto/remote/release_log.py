"""The release log as a client sees it: a node's release must stand in it, and it may only have grown since this client looked last.

The last checkpoint is kept in a file. Two that cannot both be true are kept beside it, as proof. Tiles come from the log itself, so no
node learns which checkpoint a client holds. Imported only where a target names a log.
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import replace
from pathlib import Path

import httpx

from leanto.errors import TargetError
from leanto.remote.target import ReleaseLog
from leanto_wire.claims import Claim, Claims
from leanto_wire.errors import EvidenceError, LogError
from leanto_wire.log.checkpoint import Checkpoint, parse_checkpoint
from leanto_wire.log.note import Verifier
from leanto_wire.log.release import LogPolicy, Rollback, SplitView, verify_release
from leanto_wire.log.tiles import Fetch
from leanto_wire.v1.private_compute_pb2 import ReleaseProof

TIMEOUT_S = 5.0
MAX_TILE_BYTES = 64 << 10


class LogReader:
    """Of one target. Raises TargetError for keys that are none."""

    def __init__(self, log: ReleaseLog) -> None:
        try:
            self._policy = LogPolicy(Verifier.parse(log.key), tuple(map(Verifier.parse, log.witnesses)), log.quorum)
        except ValueError as error:
            raise TargetError(f"the release log: {error}") from None
        self._store = Path(log.store)
        self._tiles = log.tiles

    def check(self, proof: ReleaseProof, claims: Claims) -> Claims:
        """The claims, and one more. Reads and writes files, and may fetch tiles. Raises EvidenceError."""
        stored = self._load()
        try:
            checkpoint = verify_release(proof, claims.release_digest, self._policy, stored, self._fetch if self._tiles else None)
        except (Rollback, SplitView) as error:
            self._write(self._store.with_suffix(f"{self._store.suffix}.conflict"), proof.checkpoint)
            raise EvidenceError("log", f"{error}; both checkpoints are kept at {self._store}") from None
        except LogError as error:
            raise EvidenceError("log", str(error)) from None
        if stored is None or checkpoint.size > stored.size:
            self._write(self._store, proof.checkpoint)
        return replace(claims, claims=(*claims.claims, self._claim(checkpoint)))

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

    @property
    def _fetch(self) -> Fetch:
        base = str(self._tiles).rstrip("/")

        def fetch(path: str) -> bytes:
            try:
                answer = httpx.get(f"{base}/{path}", timeout=TIMEOUT_S, trust_env=False, follow_redirects=False)
            except httpx.HTTPError as error:
                raise LogError(f"the log's tiles cannot be fetched ({type(error).__name__})") from None
            if answer.status_code != 200 or len(answer.content) > MAX_TILE_BYTES:
                raise LogError(f"the log has no {path}")
            return answer.content

        return fetch
