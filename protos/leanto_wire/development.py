"""The development evidence type: an Ed25519 root signs the report data. It proves possession of a key, nothing about the machine.

Its trust root and its policy type are its own. Knows nothing of other types of evidence.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from datetime import UTC, datetime

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from leanto_wire.claims import Claim
from leanto_wire.errors import EvidenceError
from leanto_wire.v1.private_compute_pb2 import KeyConfig

ROOT_BYTES = 32
_LABEL = b"leanto.v1 development report\x00"
_SIGNER = ("whoever holds the development root's private key",)


@dataclass(frozen=True, slots=True)
class DevelopmentPolicy:
    """Accepts development evidence signed by `root` (Ed25519 public key, 32 bytes) and nothing else.

    `releases` None accepts any release digest. `max_lifetime_s` bounds how far ahead a key may expire.
    """

    root: bytes
    releases: frozenset[bytes] | None = None
    max_lifetime_s: float = 48 * 3600

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


def sign_report(report_data: bytes, root: Ed25519PrivateKey) -> bytes:
    """The report (64 bytes) over `report_data`."""
    return root.sign(_LABEL + report_data)


def verify_report(report: bytes, report_data: bytes, policy: DevelopmentPolicy) -> None:
    """Raise EvidenceError unless the policy's root signed `report_data`."""
    try:
        Ed25519PublicKey.from_public_bytes(policy.root).verify(report, _LABEL + report_data)
    except InvalidSignature:
        raise EvidenceError("signature", "it is not signed by the development root that the policy names") from None


def claims(config: KeyConfig) -> tuple[Claim, ...]:
    """What a verified development report is worth, line by line."""
    expires = datetime.fromtimestamp(config.expires_unix_ms / 1000, UTC).isoformat(timespec="seconds")
    return (
        Claim(
            "key",
            f"X-Wing, expires {expires}",
            "the answer can be read only by a holder of this key, which the development root vouched for just now",
            "that the key stays inside protected hardware, or that its holder keeps no copy of what it opens",
            _SIGNER,
        ),
        Claim(
            "release",
            config.release_digest.hex(),
            "the signer says that this release is running",
            "that it is: nothing measured the machine",
            _SIGNER,
        ),
        Claim(
            "model",
            config.model_id,
            "the signer says that this model answers",
            "that it does: nothing measured the machine",
            _SIGNER,
        ),
    )
