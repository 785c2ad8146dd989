"""What a release log's writer, its witnesses and its readers agree on. Pure, by public specifications.

    merkle.py       RFC 9162 trees: hashes, proofs, their verification
    tiles.py        C2SP tlog-tiles: where a tree's hashes lie, and reading proofs out of them
    note.py         C2SP signed-note: text under signatures; keys as strings
    checkpoint.py   C2SP tlog-checkpoint and tlog-cosignature: a tree's size and root, signed by its log and by witnesses
    release.py      from a node's proof to "this release is in the log that everybody sees"

Knows nothing of files or HTTP.
"""

from leanto_wire.log.checkpoint import Checkpoint
from leanto_wire.log.release import LogPolicy, verify_release

__all__ = ["Checkpoint", "LogPolicy", "verify_release"]
