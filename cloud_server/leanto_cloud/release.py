"""What this node runs, as one digest: the node's own sources and the model it serves. Knows nothing of who vouches for it."""

from __future__ import annotations

import hashlib
from pathlib import Path

import leanto_wire

_ROOTS = (Path(__file__).parent, Path(leanto_wire.__file__).parent)


def release_digest(model_id: str) -> bytes:
    """SHA-256 (32 bytes) over the Python sources of leanto_cloud and leanto_wire, in order of name, and `model_id`."""
    digest = hashlib.sha256(model_id.encode() + b"\n")
    for root in _ROOTS:
        for path in sorted(root.rglob("*.py")):
            name = f"{root.name}/{path.relative_to(root).as_posix()}"
            digest.update(f"{name} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return digest.digest()
