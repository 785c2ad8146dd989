"""The development attester: signs with a root made at start-up and gone with the process. Imported only by `--development`.

It proves possession of a key, nothing about the machine; a client accepts it only by naming its root.
"""

from __future__ import annotations

import base64

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from leanto_cloud.attesters.base import Attestation
from leanto_wire.development import sign_report
from leanto_wire.v1.private_compute_pb2 import EVIDENCE_TYPE_DEVELOPMENT, EvidenceType


class DevelopmentAttester:
    """Signs report data with its own Ed25519 root."""

    evidence_type: EvidenceType.ValueType = EVIDENCE_TYPE_DEVELOPMENT

    def __init__(self, root: Ed25519PrivateKey | None = None) -> None:
        self._root = root or Ed25519PrivateKey.generate()

    @property
    def root_base64(self) -> str:
        """The root's public key as a client names it."""
        return base64.b64encode(self._root.public_key().public_bytes_raw()).decode()

    def attest(self, data: bytes) -> Attestation:
        """The signature (64 bytes) over `data`."""
        return Attestation(sign_report(data, self._root))
