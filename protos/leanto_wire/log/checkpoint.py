"""Checkpoints (C2SP tlog-checkpoint): origin, size and root of a log, as a signed note. Knows nothing of proofs."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable
from dataclasses import dataclass

from leanto_wire.errors import LogError
from leanto_wire.log.merkle import HASH_BYTES, MAX_SIZE
from leanto_wire.log.note import Note, Verifier, parse_note


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A log at one size. `root` has 32 bytes."""

    origin: str
    size: int
    root: bytes

    def text(self) -> str:
        """What is signed."""
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n"


def parse_checkpoint(raw: bytes) -> tuple[Checkpoint, Note]:
    """The checkpoint in a signed note, and the note; no signature is verified yet. Raises LogError. Extension lines are not taken."""
    note = parse_note(raw)
    lines = note.text.split("\n")
    if len(lines) != 4:
        raise LogError("a checkpoint has three lines: origin, size, root")
    origin, size, root = lines[:3]
    try:
        decoded = base64.b64decode(root, validate=True)
    except (binascii.Error, ValueError):
        decoded = b""
    if not origin or not size.isascii() or not size.isdecimal() or str(int(size[:20])) != size or int(size) > MAX_SIZE:
        raise LogError("a checkpoint has no origin, or its size is not a number")
    if len(decoded) != HASH_BYTES or base64.b64encode(decoded).decode() != root:
        raise LogError("the root of a checkpoint is not a hash")
    return Checkpoint(origin, int(size), decoded), note


def check_signatures(checkpoint: Checkpoint, note: Note, log: Verifier, witnesses: Iterable[Verifier], quorum: int) -> int:
    """How many of the witnesses have signed. Raises LogError unless the log did, and at least `quorum` of them."""
    if checkpoint.origin != log.name:
        raise LogError(f"the checkpoint is of the log {checkpoint.origin!r:.60}, not {log.name!r:.60}")
    if note.signed_at(log) is None:
        raise LogError("the checkpoint is not signed by the log's key")
    seen = {witness.public for witness in witnesses if note.signed_at(witness) is not None}
    if len(seen) < quorum:
        raise LogError(f"{len(seen)} of the named witnesses signed the checkpoint; {quorum} are needed")
    return len(seen)
