"""Each policy accepts its own type of evidence and no other: the development type stays apart from all that is hardware."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from hardware import MEASUREMENT, NONCE, NOW_S, NitroMachine, SnpMachine, key_config
from leanto_wire.development import DevelopmentPolicy, sign_report
from leanto_wire.errors import EvidenceError
from leanto_wire.evidence import verify
from leanto_wire.policies import TdxPolicy
from leanto_wire.report_data import report_data
from leanto_wire.v1.private_compute_pb2 import (
    EVIDENCE_TYPE_DEVELOPMENT,
    EVIDENCE_TYPE_NITRO,
    EVIDENCE_TYPE_SEV_SNP,
    EVIDENCE_TYPE_TDX,
    EVIDENCE_TYPE_UNSPECIFIED,
    EvidenceResponse,
)

ROOT = Ed25519PrivateKey.generate()
RAW_ROOT = ROOT.public_key().public_bytes_raw()
SNP, NITRO = SnpMachine.make(), NitroMachine.make()
TYPES = (EVIDENCE_TYPE_UNSPECIFIED, EVIDENCE_TYPE_DEVELOPMENT, EVIDENCE_TYPE_SEV_SNP, EVIDENCE_TYPE_TDX, EVIDENCE_TYPE_NITRO, 99)


def development(kind: int = EVIDENCE_TYPE_DEVELOPMENT) -> EvidenceResponse:
    """Development evidence, signed as its type would be hashed, whatever type it claims."""
    report = sign_report(report_data(kind, key_config(), NONCE), ROOT)
    return EvidenceResponse(type=kind, key_config=key_config(), nonce=NONCE, report=report)  # type: ignore[arg-type]


POLICIES: dict[str, Any] = {
    "development": DevelopmentPolicy(RAW_ROOT),
    "sev-snp": SNP.policy(),
    "sev-snp pinned to the development root": SNP.policy(roots=frozenset({RAW_ROOT})),
    "tdx": TdxPolicy(frozenset({MEASUREMENT})),
    "nitro": NITRO.policy(),
    "nitro pinned to the development root": NITRO.policy(roots=frozenset({RAW_ROOT})),
}
EVIDENCE = {"development": development(), "sev-snp": SNP.evidence(), "nitro": NITRO.evidence()}
PAIRS = [(policy, evidence, kind) for policy in POLICIES for evidence in EVIDENCE for kind in TYPES]


@pytest.mark.parametrize(("policy", "evidence", "kind"), PAIRS)
def test_of_108_pairs_of_policy_and_evidence_under_any_type_number_only_a_type_with_its_own_policy_is_believed(
    policy: str, evidence: str, kind: int
) -> None:
    sent = EvidenceResponse.FromString(EVIDENCE[evidence].SerializeToString())
    own = sent.type == kind
    sent.type = kind  # type: ignore[assignment]
    if own and policy == evidence:
        assert verify(sent, POLICIES[policy], NOW_S, NONCE).evidence_type == evidence
        return
    with pytest.raises(EvidenceError):
        verify(sent, POLICIES[policy], NOW_S, NONCE)


def test_there_are_108_pairs() -> None:
    assert len(PAIRS) == 108


@pytest.mark.parametrize("kind", TYPES[2:5])
@pytest.mark.parametrize("policy", [name for name in POLICIES if name != "development"])
def test_a_development_signature_over_another_types_report_data_is_believed_by_no_production_policy(policy: str, kind: int) -> None:
    with pytest.raises(EvidenceError):
        verify(development(kind), POLICIES[policy], NOW_S, NONCE)


def test_no_verifier_of_hardware_knows_of_the_development_type_by_import() -> None:
    import leanto_wire.evidence
    import leanto_wire.policies

    folder = Path(leanto_wire.evidence.__file__).parent
    hardware = [folder / f"{name}.py" for name in ("sev_snp", "tdx", "nitro", "nvidia")] + [Path(leanto_wire.policies.__file__)]
    assert not [
        path.name for path in hardware if "leanto_wire.development" in path.read_text() or "leanto_wire import dev" in path.read_text()
    ]
