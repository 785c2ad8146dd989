"""A certificate revocation list over a chain: signed by its root, current, and naming none of its links. Fetches nothing."""

from __future__ import annotations

from collections.abc import Sequence

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.padding import PSS
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from leanto_wire.errors import EvidenceError
from leanto_wire.evidence.certificates import MALFORMED


def check_revocation(raw: bytes, chain: Sequence[x509.Certificate], now_s: float) -> float:
    """Until when the list in `raw` (DER) of the root of `chain` is current. Raises EvidenceError if it is not, or names a link."""
    root = chain[-1]
    try:
        revoked = x509.load_der_x509_crl(raw)
        _check_signed(revoked, root)
        serials = {entry.serial_number for entry in revoked}
        start_s = revoked.last_update_utc.timestamp()
        end_s = revoked.next_update_utc.timestamp() if revoked.next_update_utc else 0.0
    except MALFORMED:
        raise EvidenceError("revocation", "its revocation list does not parse, or is not signed by its root") from None
    if not start_s <= now_s < end_s:
        raise EvidenceError("revocation", "its revocation list is not current")
    if any(certificate.serial_number in serials for certificate in chain[:-1] if certificate.issuer == revoked.issuer):
        raise EvidenceError("revocation", "one of its certificates has been revoked")
    return end_s


def _check_signed(revoked: x509.CertificateRevocationList, root: x509.Certificate) -> None:
    if revoked.issuer != root.subject:
        raise ValueError
    key, parameters, algorithm = root.public_key(), revoked.signature_algorithm_parameters, revoked.signature_hash_algorithm
    if not isinstance(key, RSAPublicKey) or not isinstance(parameters, PSS) or algorithm is None:
        raise ValueError
    key.verify(revoked.signature, revoked.tbs_certlist_bytes, parameters, algorithm)
