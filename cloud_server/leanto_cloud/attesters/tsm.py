"""The attester of a confidential guest: SEV-SNP or TDX reports from Linux, with the endorsements that a client checks them with.

Endorsements are the host's certificate table and the files of a folder that the operator keeps fresh (`vcek`, `ask`, `ark`, `crl`,
`collateral`, `nvidia`), which is read again for each report. Fetches nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from leanto_cloud.attesters.base import Attestation
from leanto_cloud.attesters.certificate_table import parse_table
from leanto_cloud.attesters.configfs import Configfs
from leanto_cloud.errors import AttestationError
from leanto_wire.report_data import REPORT_DATA_BYTES, accelerator_nonce
from leanto_wire.v1.private_compute_pb2 import EVIDENCE_TYPE_SEV_SNP, EVIDENCE_TYPE_TDX, EvidenceType


@dataclass(frozen=True, slots=True)
class Provider:
    """A kind of confidential guest: its evidence, what Linux calls its driver, and the endorsements that its evidence needs."""

    evidence_type: EvidenceType.ValueType
    driver: str
    endorsements: frozenset[str]
    needed: frozenset[str]


PROVIDERS: Mapping[str, Provider] = {
    "sev-snp": Provider(
        EVIDENCE_TYPE_SEV_SNP, "sev_guest", frozenset({"vcek", "vlek", "ask", "ark", "crl", "nvidia"}), frozenset({"ask", "ark"})
    ),
    "tdx": Provider(EVIDENCE_TYPE_TDX, "tdx_guest", frozenset({"collateral", "nvidia"}), frozenset({"collateral"})),
}


class TsmAttester:
    """Asks Linux for each report. `nvidia_tokens` gets tokens on the GPUs for a nonce (32 bytes), where there are any."""

    def __init__(
        self,
        provider: Provider,
        *,
        configfs: Configfs | None = None,
        endorsements: Path | None = None,
        nvidia_tokens: Callable[[bytes], tuple[bytes, ...]] = lambda nonce: (),
    ) -> None:
        """Raises AttestationError unless a first attestation works: a node that cannot attest does not start."""
        self.evidence_type = provider.evidence_type
        self._provider = provider
        self._configfs = configfs or Configfs()
        self._folder = endorsements
        self._nvidia_tokens = nvidia_tokens
        self.attest(bytes(REPORT_DATA_BYTES))

    def attest(self, data: bytes) -> Attestation:
        """A report over `data` (64 bytes), and all that belongs to it. Raises AttestationError."""
        blobs = self._configfs.report(self._provider.driver, data)
        table = parse_table(blobs.auxiliary) if "ask" in self._provider.endorsements else {}
        endorsements = {**table, **self._files()}
        tokens = self._nvidia_tokens(accelerator_nonce(data))
        needed = self._provider.needed | ({"nvidia"} if tokens else set())
        missing = needed - endorsements.keys()
        if missing:
            raise AttestationError(f"no client could check the report without {', '.join(sorted(missing))}: give them with --endorsements")
        return Attestation(blobs.report, endorsements, tokens)

    def _files(self) -> dict[str, bytes]:
        if self._folder is None:
            return {}
        try:
            files = {path.name: path for path in self._folder.iterdir()}
            return {name: files[name].read_bytes() for name in self._provider.endorsements & files.keys()}
        except OSError as error:
            raise AttestationError(f"the endorsements in {self._folder} cannot be read: {error.strerror}") from None
