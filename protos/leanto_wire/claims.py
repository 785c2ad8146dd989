"""Typed claims: what a piece of evidence proves, what it does not, and whom that rests on. Knows nothing of evidence formats."""

from __future__ import annotations

import math
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Claim:
    """One line of the table a person reads before trusting a node."""

    name: str
    value: str
    proves: str
    does_not_prove: str
    trusted_parties: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Claims:
    """What verified evidence says. A request is sealed to `public_key` (1216 bytes), bound to the two digests (32 bytes each)."""

    evidence_type: str
    evidence_digest: bytes
    public_key: bytes = field(repr=False)
    expires_s: float  # seconds since the epoch: of the key, or of the evidence behind it if that ends sooner
    release_digest: bytes
    model_id: str
    claims: tuple[Claim, ...]
    suite: int = 1


@dataclass(frozen=True, slots=True)
class Appraisal:
    """What one report says that was found sound: its claims, until when, and who vouches for the key, and what still is not proven."""

    claims: tuple[Claim, ...] = ()
    until_s: float = math.inf
    voucher: str = ""
    limits: str = ""
    trusted_parties: tuple[str, ...] = ()
