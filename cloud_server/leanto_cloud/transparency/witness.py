"""A witness (C2SP tlog-witness): cosigns a checkpoint only if the log extends the last one it cosigned. It never goes back.

Its memory is one row for each log, written down before it signs. Knows nothing of what the logs hold.
"""

from __future__ import annotations

import base64
import binascii
import threading
from collections.abc import Callable, Iterable
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from leanto_cloud.database import open_database
from leanto_cloud.http_server import Answer, Request
from leanto_wire.errors import LogError
from leanto_wire.log.checkpoint import Checkpoint, parse_checkpoint
from leanto_wire.log.merkle import verify_consistency
from leanto_wire.log.note import COSIGNATURE, Note, Verifier, sign

MAX_PROOF = 63


class Witness:
    """`name` and `key` sign; `logs` are the keys of those it watches. Raises ConfigurationError where its memory cannot be opened."""

    def __init__(self, name: str, key: Ed25519PrivateKey, logs: Iterable[Verifier], memory: Path, now_s: Callable[[], float]) -> None:
        self._name = name
        self._key = key
        self._logs = {log.name: log for log in logs}
        self._now_s = now_s
        self._lock = threading.Lock()
        self.verifier = Verifier(name, COSIGNATURE, key.public_key().public_bytes_raw())
        table = "CREATE TABLE IF NOT EXISTS seen (origin TEXT PRIMARY KEY, size INTEGER, root BLOB) STRICT"
        self._memory = open_database(memory, "the witness's memory", table)

    def respond(self, request: Request) -> Answer:
        """POST /add-checkpoint: 200 with the cosignature, 400, 403, 404, 409 with the size it has, or 422."""
        if (request.method, request.path) != ("POST", "/add-checkpoint"):
            return _plain(404)
        try:
            old, proof, raw = _parse(request.body)
            checkpoint, note = parse_checkpoint(raw)
        except LogError:
            return _plain(400)
        log = self._logs.get(checkpoint.origin)
        if log is None:
            return _plain(404)
        if note.signed_at(log) is None:
            return _plain(403)
        with self._lock:
            return self._add(checkpoint, old, proof)

    def close(self) -> None:
        """Close the memory."""
        self._memory.close()

    def _add(self, checkpoint: Checkpoint, old: int, proof: list[bytes]) -> Answer:
        row = self._memory.execute("SELECT size, root FROM seen WHERE origin = ?", (checkpoint.origin,)).fetchone()
        size, root = row or (0, b"")
        if old != size or checkpoint.size < size or (checkpoint.size == size and size and checkpoint.root != root):
            return 409, "text/x.tlog.size", f"{size}\n".encode()
        try:
            if size:
                verify_consistency(size, checkpoint.size, root, checkpoint.root, proof)
            elif proof or not checkpoint.size:
                raise LogError("the first checkpoint needs no proof, and an entry")
        except LogError:
            return _plain(422)
        self._memory.execute("INSERT OR REPLACE INTO seen VALUES (?, ?, ?)", (checkpoint.origin, checkpoint.size, checkpoint.root))
        text = checkpoint.text()
        signature = sign(text, self._key, self._name, kind=COSIGNATURE, at=int(self._now_s()))
        return 200, "text/plain; charset=utf-8", str(Note(text, (signature,))).removeprefix(text + "\n").encode()


def request_body(old: int, proof: Iterable[bytes], note: Note) -> bytes:
    """What asks a witness that has seen `old` entries to cosign `note`."""
    return (f"old {old}\n" + "".join(f"{base64.b64encode(one).decode()}\n" for one in proof) + f"\n{note}").encode()


def _parse(body: bytes) -> tuple[int, list[bytes], bytes]:
    head, blank, note = body.partition(b"\n\n")
    lines = head.decode("ascii", errors="replace").split("\n")
    word, _, size = lines[0].partition(" ")
    if not blank or word != "old" or not size.isdecimal() or not size.isascii() or len(size) > 20 or len(lines) > 1 + MAX_PROOF:
        raise LogError("not a request to a witness")
    try:
        return int(size), [base64.b64decode(line, validate=True) for line in lines[1:]], note
    except (binascii.Error, ValueError):
        raise LogError("a proof is written in base64") from None


def _plain(status: int) -> Answer:
    return status, "text/plain", b""
