"""Proofs over trees of every small size, and the public vectors of transparency-dev/merkle."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leanto_wire.errors import LogError
from leanto_wire.log.merkle import (
    EMPTY_ROOT,
    Subtree,
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    node_hash,
    root_hash,
    verify_consistency,
    verify_inclusion,
)


def tree(size: int) -> Subtree:
    """The plain definition, hashed anew each time."""

    def subtree(level: int, index: int) -> bytes:
        if level == 0:
            return leaf_hash(b"entry %d" % index)
        return node_hash(subtree(level - 1, 2 * index), subtree(level - 1, 2 * index + 1))

    return subtree


def vectors(data: Path, kind: str) -> Iterator[tuple[Path, dict[str, Any]]]:
    for path in sorted((data / "private/merkle/testdata" / kind).rglob("*.json")):
        yield path, json.loads(path.read_text())


def raw(text: str | None) -> bytes:
    return base64.b64decode(text or "")


def accepted(verify: Any, *arguments: Any) -> bool:
    try:
        verify(*arguments)
    except LogError:
        return False
    return True


def test_all_98_public_inclusion_vectors(data_dir: Path) -> None:
    count = 0
    for path, case in vectors(data_dir, "inclusion"):
        proof = [raw(one) for one in case["proof"] or []]
        found = accepted(verify_inclusion, case["leafIdx"], case["treeSize"], raw(case["leafHash"]), proof, raw(case["root"]))
        assert found is not case["wantErr"], path
        count += 1
    assert count == 98


def test_all_98_public_consistency_vectors(data_dir: Path) -> None:
    count = 0
    for path, case in vectors(data_dir, "consistency"):
        proof = [raw(one) for one in case["proof"] or []]
        found = accepted(verify_consistency, case["size1"], case["size2"], raw(case["root1"]), raw(case["root2"]), proof)
        assert found is not case["wantErr"], path
        count += 1
    assert count == 98


def test_nothing_extends_an_empty_log() -> None:
    for size in (0, 1, 5):
        with pytest.raises(LogError, match="cannot be shown to extend one of 0"):
            verify_consistency(0, size, EMPTY_ROOT, root_hash(tree(size), size), [])


@given(size=st.integers(1, 70), data=st.data())
def test_every_entry_of_every_tree_can_be_shown_to_be_there_and_nowhere_else(size: int, data: Any) -> None:
    index, other = data.draw(st.integers(0, size - 1)), data.draw(st.integers(0, size - 1))
    root, leaf = root_hash(tree(size), size), leaf_hash(b"entry %d" % index)
    proof = inclusion_proof(tree(size), index, size)
    verify_inclusion(index, size, leaf, proof, root)
    if other != index:
        assert not accepted(verify_inclusion, other, size, leaf, proof, root)
    for changed in (proof[:-1], [*proof, root], proof[::-1]):
        if changed != proof:
            assert not accepted(verify_inclusion, index, size, leaf, changed, root)


@given(size=st.integers(1, 70), data=st.data())
def test_every_tree_can_be_shown_to_extend_every_smaller_one(size: int, data: Any) -> None:
    old = data.draw(st.integers(1, size))
    before, after = root_hash(tree(old), old), root_hash(tree(size), size)
    proof = consistency_proof(tree(size), old, size)
    verify_consistency(old, size, before, after, proof)
    assert not accepted(verify_consistency, old, size, leaf_hash(b"forked"), after, proof)
    assert not accepted(verify_consistency, old, size, before, leaf_hash(b"forked"), proof)
    assert not accepted(verify_consistency, old, size, before, after, [*proof, after])


@given(
    st.integers(-2, 2**70),
    st.integers(-2, 2**70),
    st.lists(st.binary(max_size=40), max_size=8),
    st.binary(max_size=40),
    st.binary(max_size=40),
)
def test_any_proof_is_judged_without_a_crash(first: int, second: int, proof: list[bytes], one: bytes, other: bytes) -> None:
    accepted(verify_inclusion, first, second, one, proof, other)
    accepted(verify_consistency, first, second, one, other, proof)
