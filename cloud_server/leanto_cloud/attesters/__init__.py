"""What makes evidence: one file for each way of asking the hardware, behind the interface of base.py.

The development attester is not in here: it is made by `--development` alone (leanto_cloud/development.py).
"""

from __future__ import annotations

from pathlib import Path

from leanto_cloud.attesters.base import Attester
from leanto_cloud.errors import ConfigurationError

ATTESTERS = ("sev-snp", "tdx", "nitro")


def make_attester(name: str, endorsements: Path | None, nvidia_program: str | None = None) -> Attester:
    """The attester called `name`, after a first attestation that worked. Raises AttestationError, ConfigurationError."""
    if name == "nitro":
        if nvidia_program is not None:
            raise ConfigurationError("--nvidia-evidence stands beside sev-snp or tdx: an enclave has no GPUs")
        from leanto_cloud.attesters.nitro import NitroAttester

        return NitroAttester()
    from leanto_cloud.attesters.tsm import PROVIDERS, TsmAttester

    if nvidia_program is None:
        return TsmAttester(PROVIDERS[name], endorsements=endorsements)
    from leanto_cloud.attesters.nvidia import nvidia_tokens

    return TsmAttester(PROVIDERS[name], endorsements=endorsements, nvidia_tokens=nvidia_tokens(nvidia_program))
