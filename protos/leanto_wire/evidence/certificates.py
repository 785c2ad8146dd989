"""X.509 as evidence uses it: a short chain, leaf first, up to a key that a policy pins by SHA-256. Knows nothing of what the leaf signs."""

from __future__ import annotations

import hashlib
import itertools
import re
import warnings
from collections.abc import Sequence

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP384R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from leanto_wire.errors import EvidenceError

MAX_CERTIFICATE_BYTES = 8192
MAX_CHAIN = 8
P384_BYTES = 48
MALFORMED = (  # what cryptography raises for certificates that are none, some of it only when a part is looked at
    ValueError,
    TypeError,
    InvalidSignature,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)
_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\s]+-----END CERTIFICATE-----")


def load_certificate(raw: bytes, name: str) -> x509.Certificate:
    """The certificate in `raw` (DER, or one of PEM). Raises EvidenceError, in which `name` says which."""
    if len(raw) > MAX_CERTIFICATE_BYTES:
        raise EvidenceError("certificates", f"its certificate {name} has {len(raw)} bytes, more than any has")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # AMD numbers its chip certificates 0
            return x509.load_pem_x509_certificate(raw) if raw.startswith(b"-----") else x509.load_der_x509_certificate(raw)
    except MALFORMED:
        raise EvidenceError("certificates", f"its certificate {name} does not parse") from None


def load_chain(raw: bytes, name: str) -> list[x509.Certificate]:
    """The certificates of a PEM file, in its order. Raises EvidenceError for none, or for more than a chain has."""
    found = _PEM.findall(raw)
    if not 1 <= len(found) <= MAX_CHAIN:
        raise EvidenceError("certificates", f"its certificate chain {name} is none, or longer than {MAX_CHAIN}")
    return [load_certificate(each, name) for each in found]


def fingerprint(certificate: x509.Certificate) -> bytes:
    """SHA-256 (32 bytes) of its SubjectPublicKeyInfo: what a policy pins."""
    try:
        key = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except MALFORMED:
        raise EvidenceError("certificates", "a certificate holds a key of an unknown kind") from None
    return hashlib.sha256(key).digest()


def verify_chain(chain: Sequence[x509.Certificate], roots: frozenset[bytes], now_s: float) -> float:
    """Until when `chain` (leaf first, the pinned key last) holds, in seconds since the epoch. Raises EvidenceError if it does not now."""
    if not 2 <= len(chain) <= MAX_CHAIN:
        raise EvidenceError("certificates", f"its certificate chain has {len(chain)} links")
    if fingerprint(chain[-1]) not in roots:
        raise EvidenceError("root", "its certificates end at a root that the policy does not pin")
    try:
        for depth, (certificate, issuer) in enumerate(itertools.pairwise(chain)):
            _check_issued(certificate, issuer, depth)
        return min(_valid_until(certificate, now_s) for certificate in chain)
    except MALFORMED:
        raise EvidenceError("certificates", "a certificate is not signed by the one above it, or breaks the rules of a chain") from None


def verify_p384(certificate: x509.Certificate, signature: bytes, signed: bytes) -> None:
    """Raise EvidenceError unless `signature` (r ‖ s, 96 bytes) over `signed` is by the certificate's P-384 key, with SHA-384."""
    r, s = int.from_bytes(signature[:P384_BYTES], "big"), int.from_bytes(signature[P384_BYTES:], "big")
    try:
        key = certificate.public_key()
        if not isinstance(key, EllipticCurvePublicKey) or not isinstance(key.curve, SECP384R1) or len(signature) != 2 * P384_BYTES:
            raise ValueError
        key.verify(encode_dss_signature(r, s), signed, ECDSA(hashes.SHA384()))
    except MALFORMED:
        raise EvidenceError("signature", "it is not signed by the key of its certificate") from None


def _check_issued(certificate: x509.Certificate, issuer: x509.Certificate, depth: int) -> None:
    """Raise what cryptography raises, or ValueError, unless `issuer` is an authority that may sign and did."""
    certificate.verify_directly_issued_by(issuer)
    if not isinstance(certificate.signature_hash_algorithm, hashes.SHA256 | hashes.SHA384 | hashes.SHA512):
        raise ValueError
    if any(extension.critical and isinstance(extension.value, x509.UnrecognizedExtension) for extension in certificate.extensions):
        raise ValueError
    try:
        authority = issuer.extensions.get_extension_for_class(x509.BasicConstraints).value
    except x509.ExtensionNotFound:
        raise ValueError from None
    if not authority.ca or (authority.path_length is not None and authority.path_length < depth):
        raise ValueError


def _valid_until(certificate: x509.Certificate, now_s: float) -> float:
    start_s, end_s = certificate.not_valid_before_utc.timestamp(), certificate.not_valid_after_utc.timestamp()
    if not start_s <= now_s < end_s:
        raise EvidenceError("certificates", "a certificate has expired, or is not valid yet; check the clock, or have the node renew it")
    return end_s
