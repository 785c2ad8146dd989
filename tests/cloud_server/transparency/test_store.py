"""The log's folder: every tree that it has been through can be read out of its tiles, and a kill costs nothing that was signed."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from leanto_cloud.errors import ConfigurationError
from leanto_cloud.transparency.store import LogStore
from leanto_wire.errors import LogError
from leanto_wire.log.checkpoint import parse_checkpoint
from leanto_wire.log.merkle import (
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    node_hash,
    root_hash,
    verify_consistency,
    verify_inclusion,
)
from logs import ORIGIN, key, store

ENTRIES = [b"release %d" % n for n in range(600)]


def plain_root(entries: list[bytes]) -> bytes:
    """RFC 9162's definition, word for word."""
    if len(entries) == 1:
        return leaf_hash(entries[0])
    split = 1 << ((len(entries) - 1).bit_length() - 1)
    return node_hash(plain_root(entries[:split]), plain_root(entries[split:]))


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> LogStore:
    return store(tmp_path_factory.mktemp("log"), ENTRIES)


def test_every_checkpoint_has_the_root_of_the_definition(log: LogStore) -> None:
    for size in (1, 2, 3, 255, 256, 257, 511, 512, 513, 600):
        assert root_hash(log.subtrees(size), size) == plain_root(ENTRIES[:size]), size
    checkpoint, note = log.checkpoint()
    assert (checkpoint.origin, checkpoint.size, checkpoint.root) == (ORIGIN, 600, plain_root(ENTRIES))
    assert note is not None
    assert note.signed_at(log.verifier) == 0
    assert log.entries(600) == ENTRIES


def test_proofs_out_of_the_tiles_hold(log: LogStore) -> None:
    random.seed(0)
    root = plain_root(ENTRIES)
    for index in [0, 255, 256, 599, *random.sample(range(600), 10)]:
        verify_inclusion(index, 600, leaf_hash(ENTRIES[index]), inclusion_proof(log.subtrees(600), index, 600), root)
    for old in [1, 255, 256, 257, 512, 599, *random.sample(range(1, 600), 10)]:
        verify_consistency(old, 600, plain_root(ENTRIES[:old]), root, consistency_proof(log.subtrees(600), old, 600))


def test_an_entry_that_is_there_is_not_appended_again(tmp_path: Path) -> None:
    log = store(tmp_path, [b"a", b"b"])
    before = log.checkpoint()
    assert log.append(b"a")[0] == 0
    assert log.checkpoint() == before


def test_a_log_goes_on_where_it_was_left(tmp_path: Path) -> None:
    store(tmp_path, ENTRIES[:300])
    assert store(tmp_path, ENTRIES[300:310]).checkpoint()[0].root == plain_root(ENTRIES[:310])


def test_another_key_or_name_cannot_append(tmp_path: Path) -> None:
    store(tmp_path, [b"a"])
    for other in (LogStore(tmp_path, ORIGIN, key(2)), LogStore(tmp_path, "other", key(1))):
        with pytest.raises(ConfigurationError, match="signed for another log or by another key"):
            other.append(b"b")


def test_a_missing_tile_is_no_proof(tmp_path: Path) -> None:
    log = store(tmp_path, [b"a", b"b", b"c"])
    (tmp_path / "tile/0/000.p/3").unlink()
    with pytest.raises(LogError, match=r"tile/0/000\.p/3"):
        root_hash(log.subtrees(3), 3)


def test_killed_appends_lose_nothing_that_was_signed_and_never_fork(tmp_path: Path) -> None:
    program = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parents[2])!r})
from logs import store
log = store(__import__("pathlib").Path({str(tmp_path)!r}), [])
start = log.checkpoint()[0].size
while True:
    log.append(b"%d-%d" % ({os.getpid()}, start)); start += 1
    print(start, flush=True)
"""
    seen: list[tuple[int, bytes]] = []
    random.seed(1)
    for _ in range(8):
        writer = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
        assert writer.stdout is not None
        writer.stdout.readline()
        time.sleep(random.uniform(0, 0.05))
        writer.send_signal(signal.SIGKILL)
        said = writer.communicate()[0].split()
        checkpoint, _ = parse_checkpoint((tmp_path / "checkpoint").read_bytes())
        assert checkpoint.size >= max(map(int, said), default=1)
        log = store(tmp_path, [])
        assert root_hash(log.subtrees(checkpoint.size), checkpoint.size) == checkpoint.root
        for old, root in seen:
            verify_consistency(
                old, checkpoint.size, root, checkpoint.root, consistency_proof(log.subtrees(checkpoint.size), old, checkpoint.size)
            )
        seen.append((checkpoint.size, checkpoint.root))
    assert seen[-1][0] > seen[0][0]
