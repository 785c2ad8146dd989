"""Which policy accepts which type of evidence, and the order in which a node's word is doubted.

`verify` reads no clock, file or network. Each type of policy accepts exactly one type of evidence; nothing turns a policy into
another. Knows nothing of gRPC, or of how a node makes its evidence.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from leanto_wire import development
from leanto_wire.claims import Appraisal, Claims
from leanto_wire.development import DevelopmentPolicy
from leanto_wire.errors import EvidenceError
from leanto_wire.evidence import nitro, nvidia, sev_snp, tdx
from leanto_wire.evidence.bounds import check_bounds
from leanto_wire.evidence.key_config import key_claims, read_key_config
from leanto_wire.policies import NitroPolicy, SevSnpPolicy, TdxPolicy
from leanto_wire.report_data import NONCE_BYTES, accelerator_nonce, evidence_digest, report_data
from leanto_wire.seal import SUITE
from leanto_wire.v1.private_compute_pb2 import (
    EVIDENCE_TYPE_DEVELOPMENT,
    EVIDENCE_TYPE_NITRO,
    EVIDENCE_TYPE_SEV_SNP,
    EVIDENCE_TYPE_TDX,
    EvidenceResponse,
)

Policy = DevelopmentPolicy | SevSnpPolicy | TdxPolicy | NitroPolicy


@dataclass(frozen=True, slots=True)
class _Type:
    """One type of evidence: its number, its name, and what holds its report against a policy, a time and the report data."""

    number: int
    name: str
    appraise: Callable[[EvidenceResponse, Any, float, bytes], Appraisal]


_TYPES: Mapping[type, _Type] = {
    DevelopmentPolicy: _Type(EVIDENCE_TYPE_DEVELOPMENT, "development", development.appraise),
    SevSnpPolicy: _Type(EVIDENCE_TYPE_SEV_SNP, "sev-snp", sev_snp.appraise),
    TdxPolicy: _Type(EVIDENCE_TYPE_TDX, "tdx", tdx.appraise),
    NitroPolicy: _Type(EVIDENCE_TYPE_NITRO, "nitro", nitro.appraise),
}
_NAMES = {kind.number: kind.name for kind in _TYPES.values()}


def verify(evidence: EvidenceResponse, policy: Policy, now_s: float, nonce: bytes, *, suites: Collection[int] = (SUITE,)) -> Claims:
    """What `evidence` proves under `policy` at `now_s` (seconds since the epoch), asked for with `nonce` (32 bytes).

    `suites` are the numbers of those that the client accepts. Raises EvidenceError for anything that is not proven.
    """
    kind = _TYPES.get(type(policy))
    if kind is None:
        raise EvidenceError("type", f"no verifier belongs to a {type(policy).__name__}; give the policy of the type that you expect")
    if evidence.type != kind.number:
        found = _NAMES.get(evidence.type, "unknown")
        raise EvidenceError("type", f"the node's evidence is of the {found} type; this policy accepts the {kind.name} type alone")
    check_bounds(evidence)
    if len(nonce) != NONCE_BYTES or evidence.nonce != nonce:
        raise EvidenceError("freshness", "it answers another nonce, so it may be old")
    data = report_data(evidence.type, evidence.key_config, nonce)
    machine = kind.appraise(evidence, policy, now_s, data)
    devices = _appraise_devices(evidence, policy, now_s, data)
    config = read_key_config(evidence.key_config, policy, now_s, suites)
    return Claims(
        evidence_type=kind.name,
        evidence_digest=evidence_digest(evidence.type, evidence.key_config),
        public_key=config.public_key,
        expires_s=min(config.expires_unix_ms / 1000, machine.until_s, devices.until_s),
        release_digest=config.release_digest,
        model_id=config.model_id,
        claims=(*machine.claims, *devices.claims, *key_claims(config, machine)),
        suite=config.suite,
    )


def _appraise_devices(evidence: EvidenceResponse, policy: Policy, now_s: float, data: bytes) -> Appraisal:
    """What is said of GPUs, where the policy asks: then their absence is a refusal."""
    if isinstance(policy, DevelopmentPolicy) or policy.nvidia is None:
        return Appraisal()
    return nvidia.appraise(evidence, policy.nvidia, now_s, accelerator_nonce(data))
