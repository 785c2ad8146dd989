"""What every attester is to the node. Knows nothing of keys, clients or hardware."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from leanto_wire.v1.private_compute_pb2 import EvidenceType


@dataclass(frozen=True, slots=True)
class Attestation:
    """A report, what it is checked with, and NVIDIA's tokens on the machine's GPUs."""

    report: bytes
    endorsements: Mapping[str, bytes] = field(default_factory=dict)
    nvidia_tokens: tuple[bytes, ...] = ()


class Attester(Protocol):
    """Makes attestations of one type of evidence."""

    @property
    def evidence_type(self) -> EvidenceType.ValueType:
        """The type of evidence it makes."""
        ...

    def attest(self, data: bytes) -> Attestation:
        """An attestation over `data` (64 bytes). Raises AttestationError."""
        ...
