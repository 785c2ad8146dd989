"""Tiles of 256 hashes (C2SP tlog-tiles): their paths, and a tree's subtrees read out of them. Knows nothing of files or HTTP."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from leanto_wire.errors import LogError
from leanto_wire.log.merkle import HASH_BYTES, Subtree, node_hash

WIDTH = 256
HEIGHT = 8
MAX_ENTRY_BYTES = 65_535

Fetch = Callable[[str], bytes]  # path → the bytes there; raises LogError if there are none


def tile_path(level: int | str, number: int, width: int = WIDTH) -> str:
    """Of the tile at `level` ("entries" for bundles of entries); `width` below 256 is a partial one."""
    digits = f"{number % 1000:03d}"
    while number := number // 1000:
        digits = f"x{number % 1000:03d}/{digits}"
    return f"tile/{level}/{digits}" + (f".p/{width}" if width < WIDTH else "")


def tiles_of(size: int) -> list[tuple[int, int, int]]:
    """(level, number, width) of the tiles at the right edge of a tree of `size`: those that its last entry went into."""
    found = []
    level = 0
    while count := size >> (HEIGHT * level):
        number, width = divmod(count - 1, WIDTH)
        found.append((level, number, width + 1))
        level += 1
    return found


def width_of(level: int, number: int, size: int) -> int:
    """How many hashes the tile has in a tree of `size`."""
    return min(WIDTH, (size >> (HEIGHT * level)) - WIDTH * number)


def subtrees(fetch: Fetch, size: int) -> Subtree:
    """The complete subtrees of the tree of `size`, out of its tiles; each tile is fetched once. Raises LogError for a tile that is none."""
    kept: dict[tuple[int, int], bytes] = {}

    def tile(level: int, number: int) -> bytes:
        if (level, number) not in kept:
            width = width_of(level, number, size)
            found = fetch(tile_path(level, number, width))
            if len(found) != HASH_BYTES * width:
                raise LogError(f"the tile {tile_path(level, number, width)} has {len(found)} bytes, not {HASH_BYTES * width}")
            kept[level, number] = found
        return kept[level, number]

    def subtree(level: int, index: int) -> bytes:
        rows = level % HEIGHT
        first = index << rows
        data, at = tile(level // HEIGHT, first // WIDTH), first % WIDTH
        hashes = [data[HASH_BYTES * i : HASH_BYTES * (i + 1)] for i in range(at, at + (1 << rows))]
        while len(hashes) > 1:
            hashes = [node_hash(left, right) for left, right in zip(hashes[::2], hashes[1::2], strict=True)]
        return hashes[0]

    return subtree


def pack_entries(entries: Iterable[bytes]) -> bytes:
    """A bundle of entries: each after its length (2 bytes, big-endian)."""
    return b"".join(len(entry).to_bytes(2, "big") + entry for entry in entries)


def unpack_entries(bundle: bytes) -> list[bytes]:
    """The entries of a bundle. Raises LogError if it is none."""
    entries: list[bytes] = []
    while bundle:
        end = 2 + int.from_bytes(bundle[:2], "big")
        if len(bundle) < end or len(entries) == WIDTH:
            raise LogError("a bundle of entries is cut off, or too long")
        entries.append(bundle[2:end])
        bundle = bundle[end:]
    return entries
