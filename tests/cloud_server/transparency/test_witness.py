"""A witness cosigns logs that only grow: its answers are those of C2SP tlog-witness, over a real socket."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from leanto_cloud.errors import CloudError
from leanto_cloud.http_server import MAX_BODY_BYTES, Request
from leanto_cloud.transparency.publish import publish
from leanto_cloud.transparency.serving import LogServing
from leanto_cloud.transparency.store import LogStore
from leanto_cloud.transparency.witness import request_body
from leanto_wire.log.checkpoint import check_signatures, parse_checkpoint
from leanto_wire.log.merkle import consistency_proof
from leanto_wire.log.note import Note, parse_note
from logs import served, store, witness


def asks(body: bytes) -> Request:
    return Request("POST", "/add-checkpoint", body)


def note_of(log: LogStore) -> Note:
    note = log.checkpoint()[1]
    assert note is not None
    return note


def test_a_log_that_grows_is_cosigned_each_time(tmp_path: Path) -> None:
    log = store(tmp_path / "log", [b"a"])
    seen_by = witness(tmp_path / "memory", log.verifier)
    with served(seen_by.respond) as address:
        for n in range(5):
            proof = publish(b"release %d" % n, log, [address])
            checkpoint, note = parse_checkpoint(proof.checkpoint)
            assert check_signatures(checkpoint, note, log.verifier, [seen_by.verifier], 1) == 1
            assert note.signed_at(seen_by.verifier) == 1_700_000_000


def test_a_witness_remembers_across_a_restart(tmp_path: Path) -> None:
    log = store(tmp_path / "log", [b"a", b"b"])
    first = witness(tmp_path / "memory", log.verifier)
    assert first.respond(asks(request_body(0, [], note_of(log))))[0] == 200
    first.close()
    again = witness(tmp_path / "memory", log.verifier)
    assert again.respond(asks(request_body(0, [], note_of(log)))) == (409, "text/x.tlog.size", b"2\n")
    assert again.respond(asks(request_body(2, [], note_of(log))))[0] == 200


def test_a_rollback_and_a_fork_are_refused(tmp_path: Path) -> None:
    log, fork = store(tmp_path / "log", [b"a", b"b", b"c"]), store(tmp_path / "fork", [b"a", b"x", b"y", b"z"])
    small = store(tmp_path / "small", [b"a", b"b"])
    seen_by = witness(tmp_path / "memory", log.verifier)
    assert seen_by.respond(asks(request_body(0, [], note_of(log))))[0] == 200
    proof = consistency_proof(fork.subtrees(4), 3, 4)
    assert seen_by.respond(asks(request_body(3, proof, note_of(fork))))[0] == 422
    assert seen_by.respond(asks(request_body(3, [], note_of(small))))[0] == 409
    same_size = store(tmp_path / "same", [b"a", b"b", b"x"])
    assert seen_by.respond(asks(request_body(3, [], note_of(same_size))))[0] == 409


def test_a_log_that_forks_gets_no_cosignature_for_its_release(tmp_path: Path) -> None:
    log, fork = store(tmp_path / "log", [b"a", b"b"]), store(tmp_path / "fork", [b"x", b"y"])
    with served(witness(tmp_path / "memory", log.verifier).respond) as address:
        publish(b"release", log, [address])
        with pytest.raises(CloudError, match="does not cosign"):
            publish(b"another", store(tmp_path / "fork", [b"z"]), [address])
        assert fork.checkpoint()[0].size > 2


def test_other_logs_and_strangers_are_refused(tmp_path: Path) -> None:
    log = store(tmp_path / "log", [b"a"])
    seen_by = witness(tmp_path / "memory", log.verifier)
    stranger, other = store(tmp_path / "s", [b"a"], signer=2), store(tmp_path / "o", [b"a"], origin="other.example")
    assert seen_by.respond(asks(request_body(0, [], note_of(stranger))))[0] == 403
    assert seen_by.respond(asks(request_body(0, [], note_of(other))))[0] == 404


@pytest.mark.parametrize(
    "body", [b"", b"old x\n\n", b"old 1\nnot base64\n\n", b"new 1\n\n", b"old 0\n\nno note", b"old 0\n" + b"AA==\n" * 64 + b"\n"]
)
def test_what_is_no_request_is_refused(tmp_path: Path, body: bytes) -> None:
    seen_by = witness(tmp_path / "memory", store(tmp_path / "log", [b"a"]).verifier)
    assert seen_by.respond(asks(body))[0] == 400


def test_the_server_serves_the_log_and_nothing_else(tmp_path: Path) -> None:
    log = store(tmp_path / "log", [b"a", b"b"])
    (tmp_path / "secret").write_text("s")
    (tmp_path / "log/key.pem").write_text("s")
    with served(LogServing(tmp_path / "log").respond) as address:
        assert parse_note(httpx.get(f"{address}/checkpoint").content) == note_of(log)
        assert len(httpx.get(f"{address}/tile/0/000.p/2").content) == 64
        for path in ("/key.pem", "/../secret", "/tile/../key.pem", "/tile/0/..%2f..%2fkey.pem", "/.lock", "/", "/tile/0/001"):
            assert httpx.get(address + path).status_code == 404, path
        assert httpx.post(f"{address}/checkpoint", content=b"x").status_code == 404
        assert httpx.post(f"{address}/checkpoint", content=b"x" * (MAX_BODY_BYTES + 1)).status_code == 413
