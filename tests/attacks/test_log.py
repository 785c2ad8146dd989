"""A log, or a node that hides behind one, that lies to its readers: each must fail, and say what it is."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from leanto.errors import TargetError
from leanto.remote import ReleaseLog, release_log
from leanto.remote.release_log import LogReader
from leanto_cloud.transparency.publish import publish
from leanto_cloud.transparency.serving import LogServing
from leanto_cloud.transparency.store import LogStore
from leanto_wire.claims import Claims
from leanto_wire.errors import EvidenceError, LogError
from leanto_wire.log.checkpoint import Checkpoint, parse_checkpoint
from leanto_wire.log.merkle import leaf_hash
from leanto_wire.log.note import MAX_NOTE_BYTES, Note, sign
from leanto_wire.log.release import LogPolicy, Rollback, SplitView, verify_release
from leanto_wire.v1.private_compute_pb2 import ReleaseProof
from logs import key, served, store, witness

RELEASE = b'{"release":1}'
DIGEST = hashlib.sha256(RELEASE).digest()
CLAIMS = Claims("development", bytes(32), bytes(1216), 2e9, DIGEST, "m@1", ())


@pytest.fixture
def log(tmp_path: Path) -> LogStore:
    return store(tmp_path / "log", [b"a", b"b", b"c"])


def proven(log: LogStore, release: bytes = RELEASE) -> ReleaseProof:
    return publish(release, log, [])


def policy(log: LogStore) -> LogPolicy:
    return LogPolicy(log.verifier)


def with_checkpoint(proof: ReleaseProof, text: str, *, signer: int = 1, name: str | None = None) -> ReleaseProof:
    origin = name or text.split("\n", 1)[0]
    note = Note(text, (sign(text, key(signer), origin),))
    return ReleaseProof(release=proof.release, index=proof.index, inclusion=proof.inclusion, checkpoint=str(note).encode())


def refused(proof: ReleaseProof, rules: LogPolicy, match: str, digest: bytes = DIGEST) -> None:
    with pytest.raises(LogError, match=match):
        verify_release(proof, digest, rules, None, None)


def test_an_honest_release_is_accepted(log: LogStore) -> None:
    assert verify_release(proven(log), DIGEST, policy(log), None, None).size == 4


def test_a_node_without_a_proof_is_refused(log: LogStore) -> None:
    refused(ReleaseProof(), policy(log), "statement is not the one")


def test_a_statement_that_does_not_hash_to_the_digest_is_refused(log: LogStore) -> None:
    refused(proven(log, b"another release"), policy(log), "statement is not the one")


def test_a_wrong_leaf_index_is_refused(log: LogStore) -> None:
    proof = proven(log)
    proof.index = 2
    refused(proof, policy(log), "does not lead to the root")
    proof.index = 4
    refused(proof, policy(log), "no entry 4 in a log of 4")


@pytest.mark.parametrize("change", ["truncated", "extended", "reordered", "short"])
def test_a_changed_inclusion_proof_is_refused(log: LogStore, change: str) -> None:
    proof = proven(log)
    hashes = list(proof.inclusion)
    changed = {
        "truncated": hashes[:-1],
        "extended": [*hashes, hashes[0]],
        "reordered": hashes[::-1],
        "short": [hashes[0][:-1], *hashes[1:]],
    }
    del proof.inclusion[:]
    proof.inclusion.extend(changed[change])
    refused(proof, policy(log), "proof|hash of a log has 32 bytes")


def test_a_checkpoint_of_another_log_is_refused(log: LogStore, tmp_path: Path) -> None:
    other = store(tmp_path / "other", [], origin="evil.example")
    refused(proven(other), policy(log), "is of the log 'evil.example'")


def test_a_checkpoint_signed_by_another_key_is_refused(log: LogStore, tmp_path: Path) -> None:
    refused(proven(store(tmp_path / "other", [], signer=2)), policy(log), "not signed by the log's key")


def test_an_unsigned_checkpoint_is_refused(log: LogStore) -> None:
    proof = proven(log)
    proof.checkpoint = proof.checkpoint.split(b"\n\n")[0] + b"\n\n"
    refused(proof, policy(log), "note")


def test_a_log_that_signs_an_empty_tree_proves_nothing(log: LogStore) -> None:
    text = f"{log.origin}\n0\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n"
    refused(with_checkpoint(proven(log), text), policy(log), "no entry 3 in a log of 0")


def test_a_missing_quorum_is_refused(log: LogStore, tmp_path: Path) -> None:
    one, two = (witness(tmp_path / f"memory{n}", log.verifier, number=n, name=f"w{n}.example") for n in (7, 8))
    rules = LogPolicy(log.verifier, (one.verifier, two.verifier), 2)
    with served(one.respond) as first, served(two.respond) as second:
        refused(publish(RELEASE, log, [first]), rules, "1 of the named witnesses")
        assert verify_release(publish(RELEASE, log, [second]), DIGEST, rules, None, None).size == 4


def test_one_witness_under_two_names_counts_once(log: LogStore, tmp_path: Path) -> None:
    one, alias = (witness(tmp_path / name, log.verifier, name=name) for name in ("w.example", "v.example"))
    with pytest.raises(ValueError, match="quorum of 2 cannot be reached"):
        LogPolicy(log.verifier, (one.verifier, alias.verifier), 2)


def test_a_cosignature_from_another_checkpoint_does_not_count(log: LogStore, tmp_path: Path) -> None:
    seen_by = witness(tmp_path / "memory", log.verifier)
    with served(seen_by.respond) as address:
        old = parse_checkpoint(publish(RELEASE, log, [address]).checkpoint)[1]
    newer = publish(b"next", log, [])
    note = parse_checkpoint(newer.checkpoint)[1]
    newer.checkpoint = str(Note(note.text, (*note.signatures, old.signatures[1]))).encode()
    refused(newer, LogPolicy(log.verifier, (seen_by.verifier,), 1), "0 of the named witnesses", hashlib.sha256(b"next").digest())


def test_an_oversize_note_and_trailing_garbage_are_refused(log: LogStore) -> None:
    proof = proven(log)
    good = proof.checkpoint
    for bad in (good + b"x", good + b"\n", b"\n" + good, good + b" " * MAX_NOTE_BYTES):
        proof.checkpoint = bad
        refused(proof, policy(log), "note|checkpoint")


def test_an_endless_proof_is_refused_before_it_is_read(log: LogStore) -> None:
    proof = proven(log)
    proof.inclusion.extend([bytes(32)] * 65)
    refused(proof, policy(log), "larger than any can be")


def reader(log: LogStore, tmp_path: Path, tiles: str | None = None) -> LogReader:
    return LogReader(ReleaseLog(str(log.verifier), tmp_path / "kept/checkpoint", tiles=tiles))


def test_a_log_that_grew_is_followed_through_its_tiles(log: LogStore, tmp_path: Path) -> None:
    with served(LogServing(tmp_path / "log").respond) as tiles:
        client = reader(log, tmp_path, tiles)
        assert client.check(proven(log), CLAIMS).claims[-1].name == "release log"
        for n in range(300):
            log.append(b"later %d" % n)
        proof = publish(RELEASE, log, [])
        client.check(proof, CLAIMS)
    assert (tmp_path / "kept/checkpoint").read_bytes() == proof.checkpoint


def test_a_rolled_back_log_is_refused_and_both_checkpoints_are_kept(log: LogStore, tmp_path: Path) -> None:
    newest, older = publish(b"later", log, []), proven(store(tmp_path / "older", []))
    client = reader(log, tmp_path)
    client.check(newest, replace(CLAIMS, release_digest=hashlib.sha256(b"later").digest()))
    with pytest.raises(EvidenceError, match="gone back from 4 entries to 1") as caught:
        client.check(older, CLAIMS)
    assert caught.value.claim == "log"
    assert (tmp_path / "kept/checkpoint").read_bytes() == newest.checkpoint
    assert (tmp_path / "kept/checkpoint.conflict").read_bytes() == older.checkpoint


def test_a_split_view_of_the_same_size_is_refused(log: LogStore, tmp_path: Path) -> None:
    client = reader(log, tmp_path)
    client.check(proven(log), CLAIMS)
    with pytest.raises(EvidenceError, match="two trees of 4 entries"):
        client.check(proven(store(tmp_path / "fork", [b"a", b"b", b"x"])), CLAIMS)


def test_a_forked_log_that_grew_is_refused(log: LogStore, tmp_path: Path) -> None:
    stored = verify_release(proven(log), DIGEST, policy(log), None, None)
    fork = store(tmp_path / "fork", [b"a", b"b", b"x", b"y", b"z"])
    with pytest.raises(SplitView, match="does not extend"):
        verify_release(proven(fork), DIGEST, policy(log), stored, fork.fetch)
    with pytest.raises(Rollback):
        verify_release(proven(store(tmp_path / "small", [])), DIGEST, policy(log), stored, fork.fetch)


def test_tiles_of_another_tree_do_not_help_a_fork(log: LogStore, tmp_path: Path) -> None:
    stored = verify_release(proven(log), DIGEST, policy(log), None, None)
    fork = store(tmp_path / "fork", [b"a", b"b", b"x", b"y", b"z"])
    proof = proven(fork)
    honest = store(tmp_path / "log", [b"y", b"z"])  # of the same size as the fork
    assert honest.checkpoint()[0].size == 6
    with pytest.raises(LogError, match="does not extend"):
        verify_release(proof, DIGEST, policy(log), stored, honest.fetch)


MEETING = """
import hashlib, sys
sys.path.insert(0, sys.argv[1])
from test_log import *

load, met = LogReader._load, []

def and_meet(self):
    found = load(self)
    if not met:
        met.append(print("loaded", flush=True))
        sys.stdin.readline()
    return found

LogReader._load = and_meet
try:
    reader(store(Path(sys.argv[2]), []), Path(sys.argv[3])).check(ReleaseProof.FromString(bytes.fromhex(sys.argv[4])), CLAIMS)
    print("accepted")
except EvidenceError as error:
    print(error)
"""


def test_of_two_processes_that_meet_two_forks_at_once_one_refuses(log: LogStore, tmp_path: Path) -> None:
    forks = [proven(log), proven(store(tmp_path / "fork", [b"a", b"b", b"x"]))]
    places = (str(Path(__file__).parent), str(tmp_path / "log"), str(tmp_path))
    path = {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", MEETING, *places, fork.SerializeToString().hex()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | path,
        )
        for fork in forks
    ]
    try:
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "loaded\n"  # each has seen that no checkpoint is kept
        said = [process.communicate("\n", timeout=60)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    assert sorted("accepted" in one for one in said) == [False, True]
    assert sum("two trees of 4 entries" in one for one in said) == 1


class Overtaken(LogReader):
    """While it verifies, another reader of the same store is faster."""

    overtaking: Callable[[], object] | None = None

    def _verified(self, *arguments: Any) -> Checkpoint:
        checkpoint = super()._verified(*arguments)
        if self.overtaking is not None:
            overtaking, self.overtaking = self.overtaking, None
            overtaking()
        return checkpoint


def test_a_slower_reader_does_not_write_a_smaller_checkpoint_over_a_larger_one(log: LogStore, tmp_path: Path) -> None:
    smaller = proven(log)
    larger = publish(b"later", log, [])
    slow = Overtaken(ReleaseLog(str(log.verifier), tmp_path / "kept/checkpoint"))
    slow.overtaking = lambda: reader(log, tmp_path).check(larger, replace(CLAIMS, release_digest=hashlib.sha256(b"later").digest()))
    with pytest.raises(EvidenceError, match="gone back from 5 entries to 4"):
        slow.check(smaller, CLAIMS)
    assert (tmp_path / "kept/checkpoint").read_bytes() == larger.checkpoint


def test_a_reader_that_was_overtaken_compares_with_what_the_other_has_seen(log: LogStore, tmp_path: Path) -> None:
    fork = proven(store(tmp_path / "fork", [b"a", b"b", b"x"]))
    slow = Overtaken(ReleaseLog(str(log.verifier), tmp_path / "kept/checkpoint"))
    slow.overtaking = lambda: reader(log, tmp_path).check(proven(log), CLAIMS)
    with pytest.raises(EvidenceError, match="two trees of 4 entries"):
        slow.check(fork, CLAIMS)


def test_a_store_that_another_never_lets_go_of_is_a_refusal(log: LogStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(release_log, "LOCK_S", 0.0)
    (tmp_path / "kept").mkdir()
    with FileLock(tmp_path / "kept/checkpoint.lock"), pytest.raises(EvidenceError, match="cannot be locked"):
        reader(log, tmp_path).check(proven(log), CLAIMS)


def test_without_tiles_a_grown_log_is_not_taken_on_trust(log: LogStore, tmp_path: Path) -> None:
    client = reader(log, tmp_path)
    client.check(proven(log), CLAIMS)
    with pytest.raises(EvidenceError, match="no address of its tiles"):
        client.check(publish(b"later", log, []), replace(CLAIMS, release_digest=hashlib.sha256(b"later").digest()))


def test_a_damaged_store_is_not_forgotten(log: LogStore, tmp_path: Path) -> None:
    client = reader(log, tmp_path)
    client.check(proven(log), CLAIMS)
    (tmp_path / "kept/checkpoint").write_bytes(b"garbage")
    with pytest.raises(EvidenceError, match="look at it before removing it"):
        client.check(proven(log), CLAIMS)


def test_keys_of_the_wrong_kind_are_the_users_mistake(log: LogStore, tmp_path: Path) -> None:
    key_of_witness = str(witness(tmp_path / "memory", log.verifier).verifier)
    for bad in (ReleaseLog(key_of_witness, tmp_path / "x"), ReleaseLog(str(log.verifier), tmp_path / "x", (str(log.verifier),), 1)):
        with pytest.raises(TargetError, match="release log"):
            LogReader(bad)


def test_the_leaf_of_a_release_is_not_the_hash_of_a_node(log: LogStore) -> None:
    """Second preimages: an inner node given as an entry has another hash (RFC 9162, section 2.1.1)."""
    assert leaf_hash(leaf_hash(b"a") + leaf_hash(b"b")) != log.subtrees(3)(1, 0)
