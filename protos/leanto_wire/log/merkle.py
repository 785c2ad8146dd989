"""Merkle trees by RFC 9162, section 2.1: leaf and node hashes, inclusion and consistency proofs, and their verification.

A tree is known by the hashes of its complete subtrees. Knows nothing of where they are kept.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

from leanto_wire.errors import LogError

HASH_BYTES = 32
MAX_SIZE = 1 << 62
EMPTY_ROOT = hashlib.sha256(b"").digest()

Subtree = Callable[[int, int], bytes]  # (level, index) → hash of the complete subtree over leaves [index << level, (index + 1) << level)


def leaf_hash(entry: bytes) -> bytes:
    """Of one entry."""
    return hashlib.sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Of two subtrees side by side."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def range_hash(subtree: Subtree, start: int, end: int) -> bytes:
    """Of the leaves [start, end) as a tree of their own; `start` is a multiple of the largest power of two below their number."""
    count = end - start
    if count & (count - 1) == 0 and start % count == 0:
        level = count.bit_length() - 1
        return subtree(level, start >> level)
    middle = start + _split(count)
    return node_hash(range_hash(subtree, start, middle), range_hash(subtree, middle, end))


def root_hash(subtree: Subtree, size: int) -> bytes:
    """Of the tree over `size` leaves."""
    return EMPTY_ROOT if size == 0 else range_hash(subtree, 0, size)


def inclusion_proof(subtree: Subtree, index: int, size: int) -> list[bytes]:
    """PATH(index, D[size]) of RFC 9162, section 2.1.3.1: from the leaf up."""
    if not 0 <= index < size:
        raise ValueError(f"there is no leaf {index} in a tree of {size}")
    proof: list[bytes] = []
    start, end = 0, size
    while end - start > 1:
        middle = start + _split(end - start)
        if index < middle:
            proof.append(range_hash(subtree, middle, end))
            end = middle
        else:
            proof.append(range_hash(subtree, start, middle))
            start = middle
    return proof[::-1]


def consistency_proof(subtree: Subtree, old: int, size: int) -> list[bytes]:
    """PROOF(old, D[size]) of RFC 9162, section 2.1.4.1."""
    if not 0 < old <= size:
        raise ValueError(f"nothing is consistent from size {old} to {size}")
    proof: list[bytes] = []
    start, end, whole = 0, size, True  # whole: the old tree is the left edge, which its owner has
    while old < end:
        middle = start + _split(end - start)
        if old <= middle:
            proof.append(range_hash(subtree, middle, end))
            end = middle
        else:
            proof.append(range_hash(subtree, start, middle))
            start, whole = middle, False
    if not whole:
        proof.append(range_hash(subtree, start, end))
    return proof[::-1]


def verify_inclusion(index: int, size: int, leaf: bytes, proof: Sequence[bytes], root: bytes) -> None:
    """Raise LogError unless `leaf` (its hash) is at `index` of the tree: RFC 9162, section 2.1.3.2."""
    if not 0 <= index < size <= MAX_SIZE:
        raise LogError(f"there is no entry {index} in a log of {size}")
    _check_hashes(leaf, root, *proof)
    at, last, found = index, size - 1, leaf
    for sibling in proof:
        if last == 0:
            raise LogError("the inclusion proof is too long")
        if at & 1 or at == last:
            found = node_hash(sibling, found)
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        else:
            found = node_hash(found, sibling)
        at, last = at >> 1, last >> 1
    if last != 0 or found != root:
        raise LogError("the inclusion proof does not lead to the root")


def verify_consistency(old: int, size: int, old_root: bytes, root: bytes, proof: Sequence[bytes]) -> None:
    """Raise LogError unless the tree extends the old one: RFC 9162, section 2.1.4.2. Nothing is said to extend an empty tree."""
    if not 0 < old <= size <= MAX_SIZE:
        raise LogError(f"a log of {size} cannot be shown to extend one of {old}")
    if old == size:
        if proof or old_root != root:
            raise LogError("two logs of the same size differ")
        return
    _check_hashes(old_root, root, *proof)
    path = list(proof)
    if old & (old - 1) == 0:
        path.insert(0, old_root)
    if not path:
        raise LogError("the consistency proof is empty")
    at, last = old - 1, size - 1
    while at & 1:
        at, last = at >> 1, last >> 1
    before = after = path[0]
    for sibling in path[1:]:
        if last == 0:
            raise LogError("the consistency proof is too long")
        if at & 1 or at == last:
            before, after = node_hash(sibling, before), node_hash(sibling, after)
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        else:
            after = node_hash(after, sibling)
        at, last = at >> 1, last >> 1
    if last != 0 or before != old_root or after != root:
        raise LogError("the consistency proof does not lead from one root to the other")


def _split(count: int) -> int:
    """The largest power of two below `count` ≥ 2."""
    return 1 << ((count - 1).bit_length() - 1)


def _check_hashes(*hashes: bytes) -> None:
    if any(len(one) != HASH_BYTES for one in hashes):
        raise LogError(f"a hash of a log has {HASH_BYTES} bytes")
