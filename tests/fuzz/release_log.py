"""The release log: notes, checkpoints, proofs, tiles and keys, signed where a dishonest log could sign; and the client's own checkpoint."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from hashlib import sha256
from random import Random

from google.protobuf.message import DecodeError

from fuzz.changes import changed_message, changed_number, fixed, one_of, text
from fuzz.target import Target, scratch, written
from leanto.remote.release_log import LogReader
from leanto.remote.target import ReleaseLog
from leanto_cloud.transparency.publish import publish
from leanto_cloud.transparency.store import LogStore
from leanto_wire.claims import Claims
from leanto_wire.errors import EvidenceError, LogError
from leanto_wire.log.checkpoint import Checkpoint, parse_checkpoint
from leanto_wire.log.merkle import consistency_proof, inclusion_proof, leaf_hash, root_hash, verify_consistency, verify_inclusion
from leanto_wire.log.note import Note, Verifier, parse_note, parse_signatures, sign
from leanto_wire.log.release import LogPolicy, Rollback, SplitView, check_extends, verify_release
from leanto_wire.log.tiles import unpack_entries
from leanto_wire.v1.private_compute_pb2 import ReleaseProof
from logs import key, store

GROWN = 300  # entries: more than a tile holds


@cache
def log() -> tuple[LogStore, ReleaseProof]:
    """A small log, and a proof from it."""
    made = store(scratch("log"), [b"a", b"b", b"c", b"d"])
    return made, publish(b"release", made, [])


@cache
def grown() -> tuple[LogStore, dict[str, bytes], Checkpoint, Checkpoint]:
    """A log of several tiles, those that show how it has grown, and the checkpoints before and after."""
    made = store(scratch("grown"), [b"%d" % number for number in range(GROWN)])
    subtree, after = made.subtrees(GROWN), made.checkpoint()[0]
    before = Checkpoint(after.origin, 5, root_hash(subtree, 5))
    fetched: dict[str, bytes] = {}

    def fetch(path: str) -> bytes:
        fetched[path] = made.fetch(path)
        return fetched[path]

    check_extends(before, after, fetch)
    return made, fetched, before, after


def _policy() -> LogPolicy:
    return LogPolicy(log()[0].verifier)


def release(raw: bytes) -> None:
    """A proof as a node shows it, of what its evidence names."""
    found = ReleaseProof.FromString(raw)
    verify_release(found, sha256(found.release).digest(), _policy(), None, None)


def signed_checkpoint(raw: bytes) -> None:
    """A checkpoint that the log has signed, whatever it says."""
    said = text(raw)
    proof = ReleaseProof()
    proof.CopyFrom(log()[1])
    proof.checkpoint = str(Note(said, (sign(said, key(1), log()[0].origin),))).encode(errors="replace")
    verify_release(proof, sha256(b"release").digest(), _policy(), parse_checkpoint(log()[1].checkpoint)[0], None)


def tiles(parts: tuple[bytes, ...]) -> None:
    """The tiles that show how a log has grown; one that is not there is empty."""
    _, fetched, before, after = grown()
    found = dict(zip(fetched, parts, strict=False))
    check_extends(before, after, lambda path: found.get(path, b""))


def _sized(verify: Callable[[int, int, list[bytes]], None]) -> Callable[[tuple[bytes, ...]], None]:
    """What is checked of two numbers, in the first part, and hashes."""
    return lambda parts: verify(
        int.from_bytes(parts[0][:8], "big") if parts else 0, int.from_bytes(parts[0][8:], "big") if parts else 0, list(parts[1:])
    )


def _numbers(first: int, second: int, proof: list[bytes]) -> tuple[bytes, ...]:
    return first.to_bytes(8, "big") + second.to_bytes(8, "big"), *proof


def inclusion_seed(random: Random) -> tuple[bytes, ...]:
    """A sound proof that some entry is there."""
    return included(random.choice((0, 5, 255, 256, GROWN - 1)))


@cache
def included(index: int) -> tuple[bytes, ...]:
    """That this one is."""
    return _numbers(index, GROWN, [leaf_hash(b"%d" % index), *inclusion_proof(grown()[0].subtrees(GROWN), index, GROWN)])


def inclusion(index: int, size: int, proof: list[bytes]) -> None:
    """Of the leaf that comes first."""
    verify_inclusion(index, size, proof[0] if proof else b"", proof[1:], grown()[3].root)


@cache
def grew() -> tuple[bytes, ...]:
    """A sound proof that the log grew."""
    return _numbers(5, GROWN, consistency_proof(grown()[0].subtrees(GROWN), 5, GROWN))


def consistency(old: int, size: int, proof: list[bytes]) -> None:
    """Between the roots of the two."""
    verify_consistency(old, size, grown()[2].root, grown()[3].root, proof)


def stored(raw: bytes) -> None:
    """The checkpoint that a client kept, when a node shows a sound proof."""
    kept = written("checkpoint", raw)
    claims = Claims("development", b"", b"", 0.0, sha256(b"release").digest(), "m@1", ())
    LogReader(ReleaseLog(str(log()[0].verifier), kept)).check(log()[1], claims)


def _note() -> bytes:
    return log()[1].checkpoint


def _text() -> bytes:
    return parse_note(_note()).text.encode()


REFUSED = (LogError,)
TARGETS = (
    Target("log.note", fixed(_note), parse_note, REFUSED),
    Target("log.signatures", fixed(lambda: _note().partition(b"\n\n")[2]), lambda raw: parse_signatures(text(raw)), REFUSED),
    Target("log.checkpoint", fixed(_note), parse_checkpoint, REFUSED),
    Target("log.signed_checkpoint", fixed(_text), signed_checkpoint, (LogError, Rollback, SplitView)),
    Target("log.key", fixed(lambda: str(log()[0].verifier).encode()), lambda raw: Verifier.parse(text(raw)), (ValueError,)),
    Target("log.release", fixed(lambda: log()[1].SerializeToString(), changed_message(ReleaseProof)), release, (LogError, DecodeError)),
    Target("log.inclusion", one_of(inclusion_seed, changed_number), _sized(inclusion), REFUSED),
    Target("log.consistency", one_of(lambda _: grew(), changed_number), _sized(consistency), REFUSED),
    Target("log.tiles", one_of(lambda _: tuple(grown()[1].values())), tiles, (LogError, SplitView)),
    Target("log.entries", fixed(lambda: log()[0].fetch("tile/entries/000.p/4")), unpack_entries, REFUSED),
    Target("log.stored_checkpoint", fixed(_note), stored, (EvidenceError,)),
)
