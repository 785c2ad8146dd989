"""NVIDIA: what a real token says, and the whole path on an attestation service of our own make."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from hardware import NONCE, NOW_S, NvidiaService, SnpMachine, gpu_claims
from leanto_wire.errors import EvidenceError
from leanto_wire.evidence import verify
from leanto_wire.evidence.certificates import load_certificate, verify_chain
from leanto_wire.evidence.jwt import parse_jwt, verify_jwt
from leanto_wire.evidence.nvidia import check_device, check_digests, parse_bundle
from leanto_wire.policies import NvidiaRequirement
from samples import blocks

SERVICE = NvidiaService.make()


@pytest.fixture(scope="module")
def private(data_dir: Path) -> Path:
    if not (data_dir / "private" / "nvidia").is_dir():
        pytest.skip("the samples of evidence are absent from the data folder")
    return data_dir / "private"


def refused(service: NvidiaService, requirement: NvidiaRequirement | None = None) -> str:
    machine = SnpMachine.make(nvidia=service)
    with pytest.raises(EvidenceError) as caught:
        verify(machine.evidence(), machine.policy(nvidia=requirement or service.requirement()), NOW_S, NONCE)
    return caught.value.claim


def test_the_1_real_bundle_of_an_h100_says_all_that_is_asked_but_is_signed_by_nobody(private: Path) -> None:
    sample = json.loads((private / "nvidia" / "dstack_gpu_attestation_h100.json").read_text())
    bundle = parse_bundle(json.dumps(sample["detached_eat"]).encode())
    check_digests(bundle)
    token = parse_jwt(bundle.devices["GPU-0"] + "AAAA" if bundle.devices["GPU-0"].endswith(".") else bundle.devices["GPU-0"])
    check_device(token.claims, SERVICE.requirement(), b"\x11" * 32)
    with pytest.raises(EvidenceError, match="not at all"):
        verify_jwt(bundle.overall, SERVICE.signer.certificate, 1784207900)


def test_the_real_certificates_of_nvidias_service_lead_nowhere_without_a_pin_and_are_long_expired(private: Path) -> None:
    leaf = load_certificate(blocks(private / "openpcc" / "nvidia_certificates.txt", "CERTIFICATE")[0], "leaf")
    middle = load_certificate((private / "nvidia" / "openpcc_nras_root.pem").read_bytes(), "middle")
    with pytest.raises(EvidenceError, match="does not pin"):
        verify_chain([leaf, middle], SERVICE.requirement().roots, datetime(2025, 12, 11, tzinfo=UTC).timestamp())


def test_gpus_of_our_own_make_are_believed_from_end_to_end_by_a_policy_that_pins_their_root() -> None:
    machine = SnpMachine.make(nvidia=replace(SERVICE, devices=2))
    claims = verify(machine.evidence(), machine.policy(nvidia=SERVICE.requirement(devices=2, models=frozenset({"GH100"}))), NOW_S, NONCE)
    assert [claim.name for claim in claims.claims] == ["hardware", "measurement", "tcb", "gpu", "key", "release", "model"]
    assert claims.claims[3].value == "GH100, GH100"
    assert claims.expires_s == NOW_S + 600  # when the tokens do


def test_gpu_evidence_that_the_policy_does_not_ask_for_proves_nothing_and_harms_nothing() -> None:
    machine = SnpMachine.make(nvidia=SERVICE)
    assert "gpu" not in [claim.name for claim in verify(machine.evidence(), machine.policy(), NOW_S, NONCE).claims]


@pytest.mark.parametrize(
    ("changes", "claim"),
    [
        ({"eat_nonce": "00" * 32}, "gpu nonce"),
        ({"eat_nonce": None}, "gpu nonce"),
        ({"dbgstat": "enabled"}, "gpu debug"),
        ({"measres": "fail"}, "gpu measurement"),
        ({"measres": None}, "gpu measurement"),
        ({"secboot": False}, "gpu"),
        ({"secboot": "true"}, "gpu"),
        ({"x-nvidia-gpu-attestation-report-signature-verified": False}, "gpu"),
        (
            {"x-nvidia-gpu-vbios-rim-cert-chain": {"x-nvidia-cert-status": "valid", "x-nvidia-cert-ocsp-status": "revoked"}},
            "gpu revocation",
        ),
        ({"x-nvidia-gpu-driver-rim-cert-chain": None}, "gpu revocation"),
        ({"hwmodel": 5}, "gpu model"),
        ({"ueid": None}, "gpu"),
        ({"exp": int(NOW_S)}, "expiry"),
        ({"exp": None}, "expiry"),
        ({"exp": True}, "expiry"),
        ({"nbf": int(NOW_S) + 60}, "expiry"),
        ({"exp": float("inf")}, "token"),
    ],
    ids=str,
)
def test_a_claim_of_a_gpu_that_is_not_as_it_must_be_is_refused(changes: dict[str, Any], claim: str) -> None:
    assert refused(replace(SERVICE, changes=changes)) == claim


@pytest.mark.parametrize(
    ("overall", "claim"),
    [
        ({"x-nvidia-overall-att-result": False}, "gpu"),
        ({"eat_nonce": "00" * 32}, "gpu"),
        ({"submods": {}}, "gpu"),
        ({"submods": {"GPU-0": ["DIGEST", ["SHA256", "00" * 32]]}}, "gpu"),
        ({"submods": 5}, "gpu"),
    ],
    ids=str,
)
def test_an_overall_token_that_is_not_as_it_must_be_is_refused(overall: dict[str, Any], claim: str) -> None:
    assert refused(replace(SERVICE, overall=overall)) == claim


def test_one_gpu_shown_twice_is_not_two() -> None:
    assert refused(replace(SERVICE, devices=2, changes={"ueid": "same"}), SERVICE.requirement(devices=2)) == "gpu"


def test_fewer_gpus_than_the_policy_requires_and_other_models_are_refused() -> None:
    assert refused(SERVICE, SERVICE.requirement(devices=2)) == "gpu"
    assert refused(SERVICE, SERVICE.requirement(models=frozenset({"GB100"}))) == "gpu model"


@pytest.mark.parametrize(
    "header", [{"alg": "none"}, {"alg": "ES256"}, {"alg": "HS384"}, {"alg": "ES384", "crit": ["b64"]}, {"alg": None}], ids=str
)
def test_another_algorithm_than_es384_is_refused(header: dict[str, Any]) -> None:
    assert refused(replace(SERVICE, header=header)) == "signature" if header["alg"] != "none" else refused(replace(SERVICE, header=header))


@pytest.mark.parametrize(
    "raw", [b"", b"[]", b"{}", b"[" * 60_000, b"[1,2]", b'[["JWT","a"],{}]', b'[["JWT","a"],{"GPU-0":"b"}]', b"\xff", b"NaN"]
)
def test_gpu_evidence_that_does_not_parse_is_refused(raw: bytes) -> None:
    with pytest.raises(EvidenceError):
        parse_bundle(raw)


def test_a_requirement_that_would_accept_anything_is_refused() -> None:
    for roots, devices in ((frozenset[bytes](), 1), (frozenset({b"short"}), 1), (frozenset({bytes(32)}), 0)):
        with pytest.raises(ValueError):
            NvidiaRequirement(roots, devices)


def test_the_claims_that_are_asked_for_are_those_of_version_3_of_nvidias_tokens() -> None:
    check_device(gpu_claims(bytes(32)), SERVICE.requirement(), bytes(32))
