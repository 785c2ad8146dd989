"""The development report: made with the root's private key, checked with its public one. Knows nothing of policies but their root."""

from __future__ import annotations

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from leanto_wire.claims import Appraisal
from leanto_wire.development.policy import DevelopmentPolicy
from leanto_wire.errors import EvidenceError
from leanto_wire.v1.private_compute_pb2 import EvidenceResponse

_LABEL = b"leanto.v1 development report\x00"


def sign_report(report_data: bytes, root: Ed25519PrivateKey) -> bytes:
    """The report (64 bytes) over `report_data`."""
    return root.sign(_LABEL + report_data)


def appraise(evidence: EvidenceResponse, policy: DevelopmentPolicy, now_s: float, report_data: bytes) -> Appraisal:
    """Raise EvidenceError unless the policy's root signed `report_data`. The signature has no time of its own."""
    try:
        Ed25519PublicKey.from_public_bytes(policy.root).verify(evidence.report, _LABEL + report_data)
    except InvalidSignature:
        raise EvidenceError("signature", "it is not signed by the development root that the policy names") from None
    return Appraisal(
        voucher="the development root",
        limits="nothing measured the machine",
        trusted_parties=("whoever holds the development root's private key",),
    )
