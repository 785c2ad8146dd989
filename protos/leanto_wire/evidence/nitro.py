"""AWS Nitro: an attestation document, COSE_Sign1 with ES384, whose certificates lead to the pinned AWS root.

`verify_document` is everything but the binding to our key and nonce. Knows nothing of how a document travels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from leanto_wire.claims import Appraisal, Claim
from leanto_wire.errors import EvidenceError
from leanto_wire.evidence.bounds import check_binding
from leanto_wire.evidence.certificates import MAX_CHAIN, load_certificate, verify_chain, verify_p384
from leanto_wire.evidence.cose import decode, parse_sign1
from leanto_wire.policies import MEASUREMENT_BYTES, NitroPolicy
from leanto_wire.v1.private_compute_pb2 import EvidenceResponse

MAX_PCRS = 32
_PARTIES = (
    "AWS: the Nitro hypervisor and cards, its attestation keys, and whoever can open its machines",
    "the processor's vendor, and physical attacks on the machine's memory, which Nitro does not encrypt against AWS",
)
_LIMITS = "AWS itself, side channels and faults of the measured software are not excluded"
_DEBUG = bytes(MEASUREMENT_BYTES)


@dataclass(frozen=True, slots=True)
class NitroDocument:
    """What a document says. `user_data` is what the enclave asked to be signed with it."""

    module_id: str
    pcrs: dict[int, bytes]
    certificate: bytes
    cabundle: tuple[bytes, ...]  # root first
    user_data: bytes


def appraise(evidence: EvidenceResponse, policy: NitroPolicy, now_s: float, report_data: bytes) -> Appraisal:
    """What the document proves of this key and nonce. Raises EvidenceError."""
    document, appraisal = verify_document(evidence.report, policy, now_s)
    check_binding(document.user_data, report_data)
    return appraisal


def verify_document(raw: bytes, policy: NitroPolicy, now_s: float) -> tuple[NitroDocument, Appraisal]:
    """A document that is genuine and as the policy asks, whatever data it carries. Raises EvidenceError."""
    message = parse_sign1(raw)
    document = _parse(decode(message.payload))
    chain = [load_certificate(der, "certificate") for der in (document.certificate, *reversed(document.cabundle))]
    until_s = verify_chain(chain, policy.roots, now_s)
    verify_p384(chain[0], message.signature, message.signed)
    _check_pcrs(document, policy)
    return document, Appraisal(_claims(document, policy), until_s, "the measured enclave", _LIMITS, _PARTIES)


def _parse(content: Any) -> NitroDocument:
    """The document, each field of the kind that AWS documents. Raises EvidenceError."""
    fields = content if isinstance(content, dict) else {}
    pcrs, bundle = fields.get("pcrs"), fields.get("cabundle")
    module_id, certificate, user_data = fields.get("module_id"), fields.get("certificate"), fields.get("user_data") or b""
    if not isinstance(module_id, str) or not module_id.isprintable() or len(module_id) > 256 or fields.get("digest") != "SHA384":
        raise _malformed("module or digest")
    if not isinstance(pcrs, dict) or not 1 <= len(pcrs) <= MAX_PCRS or not all(_is_pcr(index, value) for index, value in pcrs.items()):
        raise _malformed("PCRs")
    if not isinstance(bundle, list) or not 1 <= len(bundle) < MAX_CHAIN or not all(isinstance(der, bytes) for der in bundle):
        raise _malformed("certificates")
    if not isinstance(certificate, bytes) or not isinstance(user_data, bytes):
        raise _malformed("certificate or user data")
    return NitroDocument(module_id, pcrs, certificate, tuple(bundle), user_data)


def _is_pcr(index: object, value: object) -> bool:
    return type(index) is int and 0 <= index < MAX_PCRS and isinstance(value, bytes) and len(value) == MEASUREMENT_BYTES


def _malformed(what: str) -> EvidenceError:
    return EvidenceError("report", f"its attestation document has no sound {what}")


def _check_pcrs(document: NitroDocument, policy: NitroPolicy) -> None:
    if document.pcrs.get(0, _DEBUG) == _DEBUG:
        raise EvidenceError("debug", "its enclave runs in debug mode: its PCRs are zeros, and its console can be read")
    for index, pins in _pins(policy).items():
        if document.pcrs.get(index) not in pins:
            raise EvidenceError("measurement", f"its PCR {index} is not one the policy names")


def _pins(policy: NitroPolicy) -> dict[int, frozenset[bytes]]:
    named = {0: policy.pcr0, 1: policy.pcr1, 2: policy.pcr2, 8: policy.pcr8}
    return {index: pins for index, pins in named.items() if pins is not None}


def _claims(document: NitroDocument, policy: NitroPolicy) -> tuple[Claim, ...]:
    checked = ", ".join(f"PCR {index}" for index in _pins(policy))
    return (
        Claim(
            "hardware",
            f"AWS Nitro enclave {document.module_id}, not in debug mode; revocation not checked (its certificate lives for hours)",
            "the AWS Nitro hypervisor signed this for an enclave that its parent instance cannot read",
            "anything against AWS, that nobody opened the machine, or that no side channel leaks",
            _PARTIES,
        ),
        Claim(
            "measurement",
            f"{checked}; PCR 0 {document.pcrs[0].hex()}",
            "the enclave was started from exactly this image",
            "what it loaded after its start, unless the image itself checks that",
            (*_PARTIES, "whoever built and published the image"),
        ),
    )
