"""What makes evidence: one file for each way of asking the hardware, behind the interface of base.py.

The development attester is not in here: it is made by `--development` alone (leanto_cloud/development.py).
"""

from __future__ import annotations

from pathlib import Path

from leanto_cloud.attesters.base import Attester

ATTESTERS = ("sev-snp", "tdx", "nitro")


def make_attester(name: str, endorsements: Path | None) -> Attester:
    """The attester called `name`, after a first attestation that worked. Raises AttestationError."""
    if name == "nitro":
        from leanto_cloud.attesters.nitro import NitroAttester

        return NitroAttester()
    from leanto_cloud.attesters.tsm import PROVIDERS, TsmAttester

    return TsmAttester(PROVIDERS[name], endorsements=endorsements)
