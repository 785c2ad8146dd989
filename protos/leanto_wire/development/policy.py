"""The policy that accepts development evidence, and the root that it names. Knows nothing of reports."""

from __future__ import annotations

import base64
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from leanto_wire.policies import Terms

ROOT_BYTES = 32


@dataclass(frozen=True, slots=True)
class DevelopmentPolicy(Terms):
    """Accepts development evidence signed by `root` (Ed25519 public key, 32 bytes) and nothing else."""

    root: bytes

    def __post_init__(self) -> None:
        """Raise ValueError for a root that is no Ed25519 public key."""
        if len(self.root) != ROOT_BYTES:
            raise ValueError(f"a development root has {ROOT_BYTES} bytes, not {len(self.root)}")
        Ed25519PublicKey.from_public_bytes(self.root)

    @classmethod
    def from_base64(cls, root: str) -> DevelopmentPolicy:
        """The policy that names `root`, as a node's ready file shows it. Raises ValueError if it is not a root."""
        try:
            raw = base64.b64decode(root, validate=True)
        except ValueError:
            raise ValueError("a development root is written in base64") from None
        return cls(raw)
