"""The SEV-SNP attestation report as bytes (AMD document 56860, ATTESTATION_REPORT): 1184 bytes, versions 2 to 5.

Knows nothing of certificates or policies.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from leanto_wire.errors import EvidenceError
from leanto_wire.policies import TcbVersion

REPORT_BYTES = 1184
SIGNED_BYTES = 0x2A0
VERSIONS = range(2, 6)
SIGNER_VCEK, SIGNER_VLEK = 0, 1
TURIN_FAMILY = 0x1A
_ECDSA_P384_SHA384 = 1
_FIELD = 72  # r and s, little-endian, each


@dataclass(frozen=True, slots=True)
class GuestPolicy:
    """What the guest's owner allowed when it was launched."""

    debug: bool
    migration: bool
    smt: bool
    well_formed: bool


@dataclass(frozen=True, slots=True)
class SnpReport:
    """The fields that a verifier looks at. The TCB versions are raw: their layout depends on the processor."""

    guest_policy: GuestPolicy
    vmpl: int
    signer: int
    author_key_enabled: bool
    report_data: bytes
    measurement: bytes
    host_data: bytes
    id_key_digest: bytes
    author_key_digest: bytes
    reported_tcb: bytes
    committed_tcb: bytes
    launch_tcb: bytes
    family: int | None  # not in version 2
    chip_id: bytes
    signed: bytes
    signature: bytes  # r ‖ s, big-endian, 96 bytes


def parse_report(raw: bytes) -> SnpReport:
    """The report in `raw`. Raises EvidenceError if it is none."""
    if len(raw) != REPORT_BYTES:
        raise EvidenceError("report", f"an SEV-SNP report has {REPORT_BYTES} bytes, not {len(raw)}")
    version, _, policy = struct.unpack_from("<IIQ", raw)
    vmpl, algorithm = struct.unpack_from("<II", raw, 0x30)
    (keys,) = struct.unpack_from("<I", raw, 0x48)
    if version not in VERSIONS or algorithm != _ECDSA_P384_SHA384:
        raise EvidenceError("report", f"its report has version {version}, signature algorithm {algorithm}; known are 2 to 5, and 1")
    return SnpReport(
        guest_policy=GuestPolicy(
            debug=bool(policy >> 19 & 1), migration=bool(policy >> 18 & 1), smt=bool(policy >> 16 & 1), well_formed=bool(policy >> 17 & 1)
        ),
        vmpl=vmpl,
        signer=keys >> 2 & 7,
        author_key_enabled=bool(keys & 1),
        report_data=raw[0x50:0x90],
        measurement=raw[0x90:0xC0],
        host_data=raw[0xC0:0xE0],
        id_key_digest=raw[0xE0:0x110],
        author_key_digest=raw[0x110:0x140],
        reported_tcb=raw[0x180:0x188],
        committed_tcb=raw[0x1E0:0x1E8],
        launch_tcb=raw[0x1F0:0x1F8],
        family=raw[0x188] if version > 2 else None,
        chip_id=raw[0x1A0:0x1E0],
        signed=raw[:SIGNED_BYTES],
        signature=_signature(raw[SIGNED_BYTES:]),
    )


def read_tcb(raw: bytes, *, turin: bool) -> TcbVersion:
    """The version numbers in the 8 bytes of a report's TCB field."""
    if turin:
        return TcbVersion(fmc=raw[0], bootloader=raw[1], tee=raw[2], snp=raw[3], microcode=raw[7])
    return TcbVersion(bootloader=raw[0], tee=raw[1], snp=raw[6], microcode=raw[7])


def _signature(raw: bytes) -> bytes:
    r, s, rest = raw[:_FIELD], raw[_FIELD : 2 * _FIELD], raw[2 * _FIELD :]
    if any(r[48:]) or any(s[48:]) or any(rest):
        raise EvidenceError("signature", "the signature field of its report is not one of P-384")
    return r[47::-1] + s[47::-1]
