"""The table that a person reads before trusting a node: what each claim proves, what it does not, and whom it rests on."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from leanto_wire.claims import Claims


def claims_table(address: str, claims: Claims) -> str:
    """The claims of the node at `address`, as lines of text."""
    lines = [f"{address}: {claims.evidence_type} evidence {claims.evidence_digest.hex()[:16]}…"]
    for claim in claims.claims:
        lines += [
            "",
            f"{claim.name:<12}{claim.value}",
            f"{'':<12}proves          {claim.proves}",
            f"{'':<12}does not prove  {claim.does_not_prove}",
            f"{'':<12}rests on        {'; '.join(claim.trusted_parties)}",
        ]
    return "\n".join(lines)
