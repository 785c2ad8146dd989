"""AMD SEV-SNP: a report signed by the chip's key (VCEK) or the cloud's (VLEK), whose certificates lead to a pinned AMD root.

`verify_report` is everything but the binding to our key and nonce. Knows nothing of how a report travels.
"""

from __future__ import annotations

from collections.abc import Mapping

from cryptography import x509

from leanto_wire.claims import Appraisal, Claim
from leanto_wire.errors import EvidenceError
from leanto_wire.evidence.bounds import check_binding, endorsements_of, need
from leanto_wire.evidence.certificates import MALFORMED, load_certificate, verify_chain, verify_p384
from leanto_wire.evidence.revocation import check_revocation
from leanto_wire.evidence.snp_report import SIGNER_VCEK, SIGNER_VLEK, TURIN_FAMILY, SnpReport, parse_report, read_tcb
from leanto_wire.policies import SevSnpPolicy, TcbVersion
from leanto_wire.v1.private_compute_pb2 import EvidenceResponse

_EXTENSION = "1.3.6.1.4.1.3704.1."
_TCB_EXTENSIONS = {"bootloader": "3.1", "tee": "3.2", "snp": "3.3", "microcode": "3.8", "fmc": "3.9"}
_PARTIES = (
    "AMD: processor, its firmware, and its key distribution service",
    "whoever can open the machine: physical attacks such as TEE.fail or Battering RAM defeat it",
)
_LIMITS = "physical and side-channel attacks, and faults of the measured software, are not excluded"


def appraise(evidence: EvidenceResponse, policy: SevSnpPolicy, now_s: float, report_data: bytes) -> Appraisal:
    """What the report proves of this key and nonce. Raises EvidenceError."""
    report, appraisal = verify_report(evidence.report, endorsements_of(evidence), policy, now_s)
    check_binding(report.report_data, report_data)
    return appraisal


def verify_report(raw: bytes, endorsements: Mapping[str, bytes], policy: SevSnpPolicy, now_s: float) -> tuple[SnpReport, Appraisal]:
    """A report that is genuine and as the policy asks, whatever data it carries. Raises EvidenceError."""
    report = parse_report(raw)
    leaf, until_s, revocation = _verify_certificates(report, endorsements, policy, now_s)
    verify_p384(leaf, report.signature, report.signed)
    tcb = _check_chip(report, leaf)
    _check_guest(report, policy)
    _check_tcb(report, tcb, policy, turin=_is_turin(leaf))
    return report, Appraisal(_claims(report, tcb, revocation), until_s, "the measured guest", _LIMITS, _PARTIES)


def _verify_certificates(
    report: SnpReport, endorsements: Mapping[str, bytes], policy: SevSnpPolicy, now_s: float
) -> tuple[x509.Certificate, float, str]:
    """The certificate of the key that signs, until when it holds, and what is known of its revocation."""
    if report.signer not in (SIGNER_VCEK, SIGNER_VLEK):
        raise EvidenceError("signature", "its report is signed by no key at all")
    names = ("vcek" if report.signer == SIGNER_VCEK else "vlek", "ask", "ark")
    chain = [load_certificate(need(endorsements, name), name) for name in names]
    until_s = verify_chain(chain, policy.roots, now_s)
    if "crl" in endorsements:
        return chain[0], min(until_s, check_revocation(endorsements["crl"], chain, now_s)), "not revoked by AMD's list"
    if policy.require_crl:
        raise EvidenceError("revocation", "it comes without AMD's revocation list, which the policy asks for")
    return chain[0], until_s, "revocation not checked"


def _check_chip(report: SnpReport, leaf: x509.Certificate) -> TcbVersion:
    """The firmware that signed: the certificate is for one chip at one TCB, and the report must be of exactly that."""
    numbers = {field: _extension(leaf, oid) for field, oid in _TCB_EXTENSIONS.items()}
    turin = _is_turin(leaf)
    if report.family is not None and turin is not (report.family == TURIN_FAMILY):
        raise EvidenceError("chip", "its certificate is for another family of processors than its report")
    try:
        certified = TcbVersion(**{field: _integer(value) for field, value in numbers.items() if value is not None})
    except TypeError:
        raise EvidenceError("certificates", "its certificate names no TCB") from None
    if certified != read_tcb(report.reported_tcb, turin=turin):
        raise EvidenceError("tcb", "its certificate is for another TCB than its report")
    if report.signer == SIGNER_VCEK:
        chip = _extension(leaf, "4") or b""
        if len(chip) not in (8, 64) or report.chip_id != chip.ljust(64, b"\0"):
            raise EvidenceError("chip", "its certificate is for another chip than its report")
    return certified


def _check_guest(report: SnpReport, policy: SevSnpPolicy) -> None:
    guest = report.guest_policy
    if guest.debug:
        raise EvidenceError("debug", "its guest may be debugged: the host can read its memory")
    if guest.migration or not guest.well_formed:
        raise EvidenceError("migration", "its guest may be migrated by an agent that nothing vouches for, or its policy is none")
    if report.measurement not in policy.measurements:
        raise EvidenceError("measurement", f"its launch measurement {report.measurement.hex()[:16]}… is not one the policy names")
    if report.vmpl != policy.vmpl:
        raise EvidenceError("vmpl", f"its report is from privilege level {report.vmpl}, the policy asks for {policy.vmpl}")
    if policy.host_data is not None and report.host_data != policy.host_data:
        raise EvidenceError("host data", "its host data are not those the policy names")
    if policy.id_keys is not None and report.id_key_digest not in policy.id_keys:
        raise EvidenceError("id key", "its guest was not signed by an id key the policy names")
    if policy.author_keys is not None and not (report.author_key_enabled and report.author_key_digest in policy.author_keys):
        raise EvidenceError("author key", "its guest was not signed by an author key the policy names")


def _check_tcb(report: SnpReport, tcb: TcbVersion, policy: SevSnpPolicy, *, turin: bool) -> None:
    for name, found in (
        ("reported", tcb),
        ("committed", read_tcb(report.committed_tcb, turin=turin)),
        ("launch", read_tcb(report.launch_tcb, turin=turin)),
    ):
        if not found.covers(policy.minimum_tcb):
            raise EvidenceError("tcb", f"its {name} TCB is too old: {found}; the policy asks for {policy.minimum_tcb}")


def _is_turin(leaf: x509.Certificate) -> bool:
    return _extension(leaf, _TCB_EXTENSIONS["fmc"]) is not None


def _extension(certificate: x509.Certificate, oid: str) -> bytes | None:
    try:
        value = certificate.extensions.get_extension_for_oid(x509.ObjectIdentifier(_EXTENSION + oid)).value
    except (x509.ExtensionNotFound, *MALFORMED):
        return None
    return value.value if isinstance(value, x509.UnrecognizedExtension) else None


def _integer(der: bytes) -> int:
    """A DER INTEGER from 0 to 255. Raises EvidenceError."""
    if len(der) == 3 and der[:2] == b"\x02\x01" and der[2] < 0x80:
        return der[2]
    if len(der) == 4 and der[:3] == b"\x02\x02\x00" and der[3] >= 0x80:
        return der[3]
    raise EvidenceError("certificates", "a TCB number of its certificate is none")


def _claims(report: SnpReport, tcb: TcbVersion, revocation: str) -> tuple[Claim, ...]:
    key = "its own key (VCEK)" if report.signer == SIGNER_VCEK else "a key that AMD leased to the cloud (VLEK), which is trusted too"
    return (
        Claim(
            "hardware",
            f"AMD SEV-SNP, chip {report.chip_id.hex()[:16]}…, signed by {key}; {revocation}",
            "an AMD processor that encrypts and checks the guest's memory signed this, and the host may not debug or migrate the guest",
            "that nobody opened the machine or read the bus, that no side channel leaks, or where the machine stands",
            _PARTIES,
        ),
        Claim(
            "measurement",
            report.measurement.hex(),
            "the guest was launched from exactly this image",
            "what it loaded after its launch, unless the image itself checks that",
            (*_PARTIES, "whoever built and published the image"),
        ),
        Claim(
            "tcb",
            str(tcb),
            "the processor's firmware, now, at launch and beyond rolling back, is no older than the policy asks",
            "that this firmware has no fault, known or not",
            _PARTIES,
        ),
    )
