"""A JSON Web Token (RFC 7515, compact) signed with ES384. There is no other algorithm here, "none" least of all."""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from typing import Any

from cryptography import x509

from leanto_wire.errors import EvidenceError
from leanto_wire.evidence.certificates import verify_p384
from leanto_wire.evidence.strict_json import parse_object

MAX_JWT_BYTES = 64 * 1024
_COMPACT = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*")


@dataclass(frozen=True, slots=True)
class Jwt:
    """A token taken apart, not verified yet."""

    header: dict[str, Any]
    claims: dict[str, Any]
    signed: bytes
    signature: bytes


def parse_jwt(text: object) -> Jwt:
    """The token in `text`. Raises EvidenceError if it is none."""
    if not isinstance(text, str) or len(text) > MAX_JWT_BYTES or not _COMPACT.fullmatch(text):
        raise EvidenceError("token", "its token is not a JSON Web Token")
    header, claims, signature = text.split(".")
    try:
        return Jwt(parse_object(_decode(header)), parse_object(_decode(claims)), f"{header}.{claims}".encode(), _decode(signature))
    except ValueError:
        raise EvidenceError("token", "its token does not parse") from None


def verify_jwt(token: Jwt, signer: x509.Certificate, now_s: float) -> float:
    """Until when the token holds. Raises EvidenceError unless `signer` signed it with ES384 and it is valid now."""
    if token.header.get("alg") != "ES384" or "crit" in token.header or "b64" in token.header:
        raise EvidenceError("signature", "its token is signed with another algorithm than ES384, or not at all")
    verify_p384(signer, token.signature, token.signed)
    start, end = _time(token.claims.get("nbf", token.claims.get("iat"))), _time(token.claims.get("exp"))
    if not start <= now_s < end:
        raise EvidenceError("expiry", "its token has expired, or is not valid yet; check the clocks of both machines")
    return end


def _time(value: Any) -> float:
    if type(value) not in (int, float) or not 0 <= value < 2**53:
        raise EvidenceError("expiry", "its token does not say when it is valid")
    return float(value)


def _decode(part: str) -> bytes:
    try:
        return base64.b64decode(part + "=" * (-len(part) % 4), altchars=b"-_", validate=True)
    except binascii.Error:
        raise ValueError("not base64url") from None
