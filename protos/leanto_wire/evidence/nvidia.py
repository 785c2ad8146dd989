"""NVIDIA GPUs: the attestation service's signed word (EAT, detached bundle) on each device, bound to our report data by its nonce.

Absence is a refusal: this is asked only where a policy requires GPUs. Knows nothing of the machine around them.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from cryptography import x509

from leanto_wire.claims import Appraisal, Claim
from leanto_wire.errors import EvidenceError
from leanto_wire.evidence.bounds import MAX_DEVICES, endorsements_of, need
from leanto_wire.evidence.certificates import load_chain, verify_chain
from leanto_wire.evidence.jwt import Jwt, parse_jwt, verify_jwt
from leanto_wire.evidence.strict_json import parse_json
from leanto_wire.policies import NvidiaRequirement
from leanto_wire.v1.private_compute_pb2 import ACCELERATOR_TYPE_NVIDIA, EvidenceResponse

_REPORT = "x-nvidia-gpu-attestation-report-"
_TRUE = (
    "secboot",
    "x-nvidia-gpu-arch-check",
    f"{_REPORT}parsed",
    f"{_REPORT}signature-verified",
    f"{_REPORT}nonce-match",
    f"{_REPORT}cert-chain-fwid-match",
    "x-nvidia-gpu-driver-rim-signature-verified",
    "x-nvidia-gpu-driver-rim-version-match",
    "x-nvidia-gpu-driver-rim-measurements-available",
    "x-nvidia-gpu-vbios-rim-signature-verified",
    "x-nvidia-gpu-vbios-rim-version-match",
    "x-nvidia-gpu-vbios-rim-measurements-available",
    "x-nvidia-gpu-vbios-index-no-conflict",
)
_CHAINS = (f"{_REPORT}cert-chain", "x-nvidia-gpu-driver-rim-cert-chain", "x-nvidia-gpu-vbios-rim-cert-chain")
_PARTIES = (
    "NVIDIA: GPU, firmware, and its attestation service",
    "whoever can open the machine: physical attacks on the links are not excluded",
)


@dataclass(frozen=True, slots=True)
class Bundle:
    """The overall token, and each device's by its name."""

    overall: Jwt
    devices: dict[str, str]


def appraise(evidence: EvidenceResponse, requirement: NvidiaRequirement, now_s: float, nonce: bytes) -> Appraisal:
    """What is proven of the GPUs. Raises EvidenceError for too few, and for any that is not sound."""
    tokens = [each.token for each in evidence.accelerators if each.type == ACCELERATOR_TYPE_NVIDIA]
    if not tokens:
        raise EvidenceError("gpu", "it comes without the GPU evidence that the policy requires")
    chain = load_chain(need(endorsements_of(evidence), "nvidia"), "nvidia")
    until_s = verify_chain(chain, requirement.roots, now_s)
    devices: dict[str, str] = {}  # each by its unique id
    for token in tokens:
        until_s = min(until_s, _appraise_bundle(parse_bundle(token), chain[0], requirement, now_s, nonce, devices))
    if len(devices) < requirement.devices:
        raise EvidenceError("gpu", f"it vouches for {len(devices)} GPUs, the policy requires {requirement.devices}")
    return Appraisal(_claims(devices), until_s)


def parse_bundle(raw: bytes) -> Bundle:
    """A detached EAT bundle: [["JWT", overall], {name: token}]. Raises EvidenceError."""
    try:
        content = parse_json(raw)
    except ValueError:
        raise EvidenceError("token", "its GPU evidence does not parse") from None
    if not (isinstance(content, list) and len(content) == 2 and isinstance(content[1], dict) and 1 <= len(content[1]) <= MAX_DEVICES):
        raise EvidenceError("token", "its GPU evidence is no detached bundle of tokens")
    if not (isinstance(content[0], list) and len(content[0]) == 2 and content[0][0] == "JWT"):
        raise EvidenceError("token", "its GPU evidence has no overall token")
    if not all(isinstance(token, str) for token in content[1].values()):
        raise EvidenceError("token", "its GPU evidence is no detached bundle of tokens")
    return Bundle(parse_jwt(content[0][1]), content[1])


def check_device(claims: dict[str, Any], requirement: NvidiaRequirement, nonce: bytes) -> None:
    """Raise EvidenceError unless what a token says of a GPU is all that it must be."""
    if claims.get("eat_nonce") != nonce.hex():
        raise EvidenceError("gpu nonce", "its GPU evidence is for another key or another nonce")
    if claims.get("dbgstat") != "disabled":
        raise EvidenceError("gpu debug", "its GPU may be debugged")
    if claims.get("measres") != "success":
        raise EvidenceError("gpu measurement", "its GPU's measurements do not match those that NVIDIA published")
    for name in _TRUE:
        if claims.get(name) is not True:
            raise EvidenceError("gpu", f"its GPU evidence does not say {name}")
    for name in _CHAINS:
        found = claims.get(name)
        if not isinstance(found, dict) or (found.get("x-nvidia-cert-status"), found.get("x-nvidia-cert-ocsp-status")) != ("valid", "good"):
            raise EvidenceError("gpu revocation", f"its GPU evidence does not say that {name} is valid and not revoked")
    model = claims.get("hwmodel")
    if not isinstance(model, str) or not model.isprintable() or (requirement.models is not None and model not in requirement.models):
        raise EvidenceError("gpu model", "its GPU is not a model the policy names")


def check_digests(bundle: Bundle) -> None:
    """Raise EvidenceError unless the overall token names exactly these tokens, each by its SHA-256."""
    named = bundle.overall.claims.get("submods")
    if not isinstance(named, dict) or named.keys() != bundle.devices.keys():
        raise EvidenceError("gpu", "its GPU evidence holds other devices than its overall token names")
    for name, token in bundle.devices.items():
        digest = hashlib.sha256(token.encode()).hexdigest()
        if named[name] not in (["DIGEST", ["SHA256", digest]], ["DIGEST", ["SHA-256", digest]]):
            raise EvidenceError("gpu", "its GPU evidence holds another token than its overall token names")


def _appraise_bundle(
    bundle: Bundle, signer: x509.Certificate, requirement: NvidiaRequirement, now_s: float, nonce: bytes, devices: dict[str, str]
) -> float:
    """Until when the bundle holds; its devices are added to `devices`. Raises EvidenceError."""
    until_s = verify_jwt(bundle.overall, signer, now_s)
    if bundle.overall.claims.get("x-nvidia-overall-att-result") is not True or bundle.overall.claims.get("eat_nonce") != nonce.hex():
        raise EvidenceError("gpu", "its GPU evidence is not for this key and nonce, or says itself that a GPU is not sound")
    check_digests(bundle)
    for text in bundle.devices.values():
        token = parse_jwt(text)
        until_s = min(until_s, verify_jwt(token, signer, now_s))
        check_device(token.claims, requirement, nonce)
        unique = token.claims.get("ueid")
        if not isinstance(unique, str) or unique in devices:
            raise EvidenceError("gpu", "its GPU evidence names a device twice, or one without its id")
        devices[unique] = str(token.claims["hwmodel"])
    return until_s


def _claims(devices: dict[str, str]) -> tuple[Claim, ...]:
    return (
        Claim(
            "gpu",
            ", ".join(sorted(devices.values())),
            "NVIDIA's attestation service found these GPUs genuine, securely booted, not debugged and measured as published, for this key",
            "that the work is done on them, that they hang on this machine, or that nobody opened it",
            _PARTIES,
        ),
    )
