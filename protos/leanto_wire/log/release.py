"""From a node's proof to a checkpoint that its release stands under, which extends what this client saw last. Pure."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from leanto_wire.errors import LogError
from leanto_wire.log.checkpoint import Checkpoint, check_signatures, parse_checkpoint
from leanto_wire.log.merkle import consistency_proof, leaf_hash, verify_consistency, verify_inclusion
from leanto_wire.log.note import COSIGNATURE, ED25519, Verifier
from leanto_wire.log.tiles import MAX_ENTRY_BYTES, Fetch, subtrees
from leanto_wire.v1.private_compute_pb2 import ReleaseProof

MAX_PROOF = 64


@dataclass(frozen=True, slots=True)
class LogPolicy:
    """Which log a release must stand in, and how many of which witnesses must have seen it."""

    log: Verifier
    witnesses: tuple[Verifier, ...] = ()
    quorum: int = 0

    def __post_init__(self) -> None:
        """Raise ValueError for keys of the wrong kind, or a quorum that cannot be reached."""
        if self.log.kind != ED25519 or any(witness.kind != COSIGNATURE for witness in self.witnesses):
            raise ValueError("the log's key signs notes (kind 1), a witness's cosigns (kind 4)")
        if not 0 <= self.quorum <= len({witness.public for witness in self.witnesses}):
            raise ValueError(f"a quorum of {self.quorum} cannot be reached by the witnesses named")


def verify_release(proof: ReleaseProof, digest: bytes, policy: LogPolicy, stored: Checkpoint | None, fetch: Fetch | None) -> Checkpoint:
    """The checkpoint under which the release with this `digest` (SHA-256) stands. `stored` is the newest that was seen before; a larger
    one is shown to extend it with tiles by `fetch`. Raises LogError, as Rollback or SplitView where the log itself is at fault.
    """
    if len(proof.release) > MAX_ENTRY_BYTES or len(proof.inclusion) > MAX_PROOF:
        raise LogError("the release proof is larger than any can be")
    if hashlib.sha256(proof.release).digest() != digest:
        raise LogError("the release statement is not the one that the evidence names")
    checkpoint, note = parse_checkpoint(proof.checkpoint)
    check_signatures(checkpoint, note, policy.log, policy.witnesses, policy.quorum)
    verify_inclusion(proof.index, checkpoint.size, leaf_hash(proof.release), list(proof.inclusion), checkpoint.root)
    if stored is not None:
        check_extends(stored, checkpoint, fetch)
    return checkpoint


def check_extends(stored: Checkpoint, checkpoint: Checkpoint, fetch: Fetch | None) -> None:
    """Raise LogError unless the log only grew since `stored`."""
    if checkpoint.size < stored.size:
        raise Rollback(f"the log has gone back from {stored.size} entries to {checkpoint.size}")
    if checkpoint.size == stored.size:
        if checkpoint.root != stored.root:
            raise SplitView(f"the log shows two trees of {stored.size} entries")
        return
    if fetch is None:
        raise LogError("the log has grown, and there is no address of its tiles to see how: give tiles in [targets.cloud.log]")
    proof = consistency_proof(subtrees(fetch, checkpoint.size), stored.size, checkpoint.size)
    try:
        verify_consistency(stored.size, checkpoint.size, stored.root, checkpoint.root, proof)
    except LogError:
        raise SplitView(f"the log of {checkpoint.size} entries does not extend the one of {stored.size} that was seen before") from None


class Rollback(LogError):
    """The log is smaller than it was."""


class SplitView(LogError):
    """The log shows different readers different trees."""
