"""A release log as a folder of C2SP tiles. An append that is killed loses nothing that was signed, and never forks.

Tiles are written whole and first, the checkpoint last: until it stands, the log has not grown. Knows nothing of HTTP.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from leanto_cloud.errors import ConfigurationError
from leanto_cloud.whole_file import write_whole
from leanto_wire.errors import LogError
from leanto_wire.log.checkpoint import Checkpoint, parse_checkpoint
from leanto_wire.log.merkle import EMPTY_ROOT, HASH_BYTES, Subtree, leaf_hash, node_hash, root_hash
from leanto_wire.log.note import Note, Verifier, parse_note, sign
from leanto_wire.log.tiles import HEIGHT, MAX_ENTRY_BYTES, WIDTH, pack_entries, subtrees, tile_path, tiles_of, unpack_entries, width_of


class LogStore:
    """The log `origin` in `folder`, signed with `key`. One process at a time appends; any number may read."""

    def __init__(self, folder: Path, origin: str, key: Ed25519PrivateKey) -> None:
        self.folder = folder
        self.origin = origin
        self._key = key
        self.verifier = Verifier(origin, 1, key.public_key().public_bytes_raw())
        folder.mkdir(parents=True, exist_ok=True)

    def checkpoint(self) -> tuple[Checkpoint, Note | None]:
        """The newest, and its note; an empty log has none. Raises ConfigurationError if it is not of this log and key."""
        try:
            found, note = parse_checkpoint((self.folder / "checkpoint").read_bytes())
        except FileNotFoundError:
            return Checkpoint(self.origin, 0, EMPTY_ROOT), None
        except (LogError, OSError) as error:
            raise ConfigurationError(f"{self.folder}: its checkpoint cannot be read: {error}") from None
        if found.origin != self.origin or note.signed_at(self.verifier) is None:
            raise ConfigurationError(f"{self.folder}: its checkpoint was signed for another log or by another key")
        return found, note

    def append(self, entry: bytes) -> tuple[int, Checkpoint]:
        """The index of `entry`, new or known, and the newest checkpoint."""
        if len(entry) > MAX_ENTRY_BYTES:
            raise ConfigurationError(f"an entry of {len(entry)} bytes is over the limit of {MAX_ENTRY_BYTES}")
        with self._locked():
            before, _ = self.checkpoint()
            entries = self.entries(before.size)
            if entry in entries:
                return entries.index(entry), before
            size = before.size + 1
            self._write_tiles(size, entry, entries)
            after = Checkpoint(self.origin, size, root_hash(self.subtrees(size), size))
            note = Note(after.text(), (sign(after.text(), self._key, self.origin),))
            _write(self.folder / "checkpoint", str(note).encode())
            return before.size, after

    def cosign(self, signatures: Sequence[tuple[str, bytes, bytes]]) -> Note:
        """The newest checkpoint, with these signatures of witnesses beside the log's own."""
        with self._locked():
            _, note = self.checkpoint()
            if note is None:
                raise ConfigurationError(f"{self.folder}: an empty log has nothing to cosign")
            kept = [one for one in note.signatures if one[:2] not in {new[:2] for new in signatures}]
            note = parse_note(str(Note(note.text, (*kept, *signatures))).encode())
            _write(self.folder / "checkpoint", str(note).encode())
            return note

    def entries(self, size: int) -> list[bytes]:
        """The first `size` entries."""
        found: list[bytes] = []
        for number in range((size + WIDTH - 1) // WIDTH):
            found += unpack_entries(self.fetch(tile_path("entries", number, width_of(0, number, size))))
        return found

    def subtrees(self, size: int) -> Subtree:
        """The complete subtrees of the log at `size`."""
        return subtrees(self.fetch, size)

    def fetch(self, path: str) -> bytes:
        """The bytes of a tile. Raises LogError."""
        try:
            return (self.folder / path).read_bytes()
        except OSError as error:
            raise LogError(f"{path}: {error.strerror}") from None

    def _write_tiles(self, size: int, entry: bytes, entries: list[bytes]) -> None:
        """The bundle and the tiles that the new entry, the last of `size`, goes into."""
        first = (size - 1) // WIDTH * WIDTH
        bundle = tile_path("entries", (size - 1) // WIDTH, (size - 1) % WIDTH + 1)
        _write(self.folder / bundle, pack_entries([*entries[first:], entry]))
        grown = leaf_hash(entry)
        for level, number, width in tiles_of(size):
            if size % WIDTH**level:
                break  # no tile was completed below, so none grows here
            old = self.fetch(tile_path(level, number, width - 1)) if width > 1 else b""
            _write(self.folder / tile_path(level, number, width), old + grown)
            if width < WIDTH:
                break
            grown = _tile_root(old + grown)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with (self.folder / ".lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def _tile_root(tile: bytes) -> bytes:
    hashes = [tile[at : at + HASH_BYTES] for at in range(0, len(tile), HASH_BYTES)]
    for _ in range(HEIGHT):
        hashes = [node_hash(left, right) for left, right in zip(hashes[::2], hashes[1::2], strict=True)]
    return hashes[0]


def _write(path: Path, content: bytes) -> None:
    """Whole or not at all, and on the disk before it returns. Raises ConfigurationError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, content, mode=0o644)  # everybody may read a log
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be written: {error.strerror}") from None
