"""Intel TDX: a quote under Intel's pinned root, checked by dcap-qvl with the collateral that came with it and the time it is given.

`verify_quote` is everything but the binding to our key and nonce. Knows nothing of how a quote or collateral is fetched.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from cryptography import x509

from leanto_wire.claims import Appraisal, Claim
from leanto_wire.errors import EvidenceError
from leanto_wire.evidence.bounds import check_binding, endorsements_of, need
from leanto_wire.evidence.certificates import MALFORMED, load_chain
from leanto_wire.evidence.strict_json import parse_object
from leanto_wire.policies import TdxPolicy
from leanto_wire.v1.private_compute_pb2 import EvidenceResponse

_PARTIES = (
    "Intel: processor, TDX module, quoting enclave, and its certification service",
    "whoever can open the machine: physical attacks such as TEE.fail defeat it",
)
_LIMITS = "physical and side-channel attacks, and faults of the measured software, are not excluded"
_MIGRATABLE = 1 << 5  # in byte 3 of the attributes: bit 29
_DOCUMENTS = ("tcb_info", "qe_identity")
_REVOKED = ("root_ca_crl", "pck_crl")
_CHAINS = ("pck_crl_issuer_chain", "tcb_info_issuer_chain", "qe_identity_issuer_chain")
_REGISTERS = ("mr_td", "rt_mr0", "rt_mr1", "rt_mr2", "rt_mr3")


@dataclass(frozen=True, slots=True)
class TdxReport:
    """What a verified quote says of its trust domain. `attributes` are 8 bytes, the first of which is debugging and its like."""

    registers: Mapping[str, bytes]
    attributes: bytes
    module_signer: bytes
    report_data: bytes
    tcb_status: str
    advisories: tuple[str, ...]
    certificates: bytes  # PEM, the processor's first, as the quote brings them


def appraise(evidence: EvidenceResponse, policy: TdxPolicy, now_s: float, report_data: bytes) -> Appraisal:
    """What the quote proves of this key and nonce. Raises EvidenceError."""
    report, appraisal = verify_quote(evidence.report, endorsements_of(evidence), policy, now_s)
    check_binding(report.report_data, report_data)
    return appraisal


def verify_quote(raw: bytes, endorsements: Mapping[str, bytes], policy: TdxPolicy, now_s: float) -> tuple[TdxReport, Appraisal]:
    """A quote that is genuine and as the policy asks, whatever data it carries. Raises EvidenceError."""
    collateral = need(endorsements, "collateral")
    until_s = _collateral_until(collateral)
    report = _verified(raw, collateral, now_s)
    _check_domain(report, policy)
    until_s = min(until_s, _chain_until(report.certificates, "of the quote"))
    return report, Appraisal(_claims(report, policy), until_s, "the measured trust domain", _LIMITS, _PARTIES)


def _verified(raw: bytes, collateral: bytes, now_s: float) -> TdxReport:
    """What dcap-qvl finds in a quote whose signatures, certificates, revocation lists and TCB it has checked. Raises EvidenceError."""
    try:
        import dcap_qvl
    except ImportError:
        raise EvidenceError("verifier", "checking a TDX quote needs dcap-qvl: pip install 'leanto[attest]'") from None
    try:
        found = dcap_qvl.verify(raw, dcap_qvl.QuoteCollateralV3.from_json(collateral.decode("utf-8")), int(now_s))
        quote = dcap_qvl.parse_quote(raw)
    except (ValueError, OverflowError):
        raise EvidenceError("signature", "its quote is not genuine, or its collateral is out of date or does not belong to it") from None
    return _read_domain(quote, found.status, tuple(found.advisory_ids))


def _read_domain(quote: Any, tcb_status: str, advisories: tuple[str, ...]) -> TdxReport:
    """The fields of a quote that dcap-qvl has parsed. Raises EvidenceError for an SGX enclave's."""
    if not quote.is_tdx():
        raise EvidenceError("report", "its quote is of an SGX enclave, not of a trust domain")
    body = quote.report
    return TdxReport(
        registers={name: bytes(getattr(body, name)) for name in _REGISTERS},
        attributes=bytes(body.td_attributes),
        module_signer=bytes(body.mr_signer_seam),
        report_data=bytes(body.report_data),
        tcb_status=tcb_status,
        advisories=advisories,
        certificates=quote.cert_chain_pem_bytes() or b"",
    )


def _collateral_until(collateral: bytes) -> float:
    """When the first part of the collateral ends (document, list or certificate), in seconds since the epoch. Raises EvidenceError."""
    try:
        parts = parse_object(collateral)
        updates = [datetime.fromisoformat(parse_object(parts[name].encode())["nextUpdate"]) for name in _DOCUMENTS]
        updates += [_next_update(bytes.fromhex(parts[name])) for name in _REVOKED]
        return min(*(each.timestamp() for each in updates), *(_chain_until(parts[name].encode(), name) for name in _CHAINS))
    except (KeyError, AttributeError, OverflowError, *MALFORMED):
        raise EvidenceError("endorsements", "its collateral is not that of a TDX quote") from None


def _next_update(revoked: bytes) -> datetime:
    """Of a revocation list (DER). Raises what MALFORMED names, for one that never ends too."""
    until = x509.load_der_x509_crl(revoked).next_update_utc
    if until is None:
        raise ValueError
    return until


def _chain_until(chain: bytes, name: str) -> float:
    """When the first certificate of a chain (PEM) ends. Whether it is one, and good now, is for dcap-qvl. Raises EvidenceError."""
    return min(certificate.not_valid_after_utc.timestamp() for certificate in load_chain(chain, name))


def _check_domain(report: TdxReport, policy: TdxPolicy) -> None:
    if report.attributes[0]:
        raise EvidenceError("debug", "its trust domain may be debugged: the host can read its memory")
    if report.attributes[3] & _MIGRATABLE:
        raise EvidenceError("migration", "its trust domain may be migrated by another that nothing vouches for")
    if any(report.module_signer):
        raise EvidenceError("module", "its TDX module is not signed by Intel")
    if report.tcb_status not in policy.tcb_statuses:
        advisories = ", ".join(report.advisories) or "none named"
        raise EvidenceError("tcb", f"its platform's TCB is {report.tcb_status} (advisories: {advisories}), which the policy does not allow")
    for name, pins in _pins(policy).items():
        if report.registers[name] not in pins:
            raise EvidenceError("measurement", f"its {_label(name)} {report.registers[name].hex()[:16]}… is not one the policy names")


def _pins(policy: TdxPolicy) -> dict[str, frozenset[bytes]]:
    named = zip(_REGISTERS, (policy.mrtd, policy.rtmr0, policy.rtmr1, policy.rtmr2, policy.rtmr3), strict=True)
    return {name: pins for name, pins in named if pins is not None}


def _label(name: str) -> str:
    return name.upper().replace("_", "")


def _claims(report: TdxReport, policy: TdxPolicy) -> tuple[Claim, ...]:
    checked = ", ".join(map(_label, _pins(policy)))
    left = ", ".join(_label(name) for name in _REGISTERS if name not in _pins(policy))
    return (
        Claim(
            "hardware",
            "Intel TDX, not debugged, certificates not revoked by Intel's lists",
            "an Intel processor that encrypts and checks the domain's memory signed this, and the host may not debug the domain",
            "that nobody opened the machine or read the bus, that no side channel leaks, or where the machine stands",
            _PARTIES,
        ),
        Claim(
            "measurement",
            f"{checked}; MRTD {report.registers['mr_td'].hex()}",
            f"the domain was started from what the policy pins: {checked}",
            f"what is not pinned ({left or 'nothing'}), and what it loaded later unless the pinned image checks that",
            (*_PARTIES, "whoever built and published the image"),
        ),
        Claim(
            "tcb",
            f"{report.tcb_status}, advisories: {', '.join(report.advisories) or 'none'}",
            "Intel's own list of that time calls the platform's firmware so",
            "that this firmware has no fault, known or not",
            _PARTIES,
        ),
    )
