"""Evidence in, typed claims out: `verify`, with one file for each type of hardware (RFC 9334 words).

Pure, offline, fail closed. Parsers take bounded bytes and raise EvidenceError, never anything else.
"""

from __future__ import annotations

from leanto_wire.claims import Claim, Claims
from leanto_wire.evidence.verifier import Policy, verify

__all__ = ["Claim", "Claims", "Policy", "verify"]
