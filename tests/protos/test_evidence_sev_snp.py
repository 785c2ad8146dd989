"""SEV-SNP: real reports of real processors as far as their fixed data allows, and the whole path on hardware of our own make."""

from __future__ import annotations

import struct
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from hardware import CHIP, NONCE, NOW_S, SnpMachine, amd_extensions, amd_root, certify, revocation_list
from leanto_wire.errors import EvidenceError
from leanto_wire.evidence import verify
from leanto_wire.evidence.certificates import fingerprint, load_certificate, verify_chain
from leanto_wire.evidence.revocation import check_revocation
from leanto_wire.evidence.sev_snp import verify_report
from leanto_wire.evidence.snp_report import parse_report
from leanto_wire.policies import AMD_ROOTS, SevSnpPolicy, TcbVersion
from leanto_wire.v1.private_compute_pb2 import Endorsement
from samples import amd_chain, blocks, snp

GENUINE = ("virtee Milan", "dstack Milan", "Azure Milan", "Azure Genoa")
ANY_TCB = TcbVersion(0, 0, 0, 0)


@pytest.fixture(scope="module")
def private(data_dir: Path) -> Path:
    if not (data_dir / "private" / "sev").is_dir():
        pytest.skip("the samples of evidence are absent from the data folder")
    return data_dir / "private"


def policy_for(raw: bytes, **changes: object) -> SevSnpPolicy:
    return replace(SevSnpPolicy(frozenset({parse_report(raw).measurement}), ANY_TCB), **changes)  # type: ignore[arg-type]


def refused(raw: bytes, endorsements: dict[str, bytes], policy: SevSnpPolicy, now_s: float = NOW_S) -> str:
    with pytest.raises(EvidenceError) as caught:
        verify_report(raw, endorsements, policy, now_s)
    return caught.value.claim


def test_the_3_pinned_roots_are_the_keys_of_amds_3_published_roots(private: Path) -> None:
    roots = {name: load_certificate(amd_chain(private / "sev", name)["ark"], "ark") for name in ("milan", "genoa", "turin_vcek")}
    assert {fingerprint(root): name.removesuffix("_vcek").capitalize() for name, root in roots.items()} == AMD_ROOTS


@pytest.mark.parametrize("name", GENUINE)
def test_the_4_real_reports_3_of_milan_and_1_of_genoa_verify(private: Path, name: str) -> None:
    raw, endorsements = snp(private, name)
    report, appraisal = verify_report(raw, endorsements, policy_for(raw), NOW_S)
    assert report.measurement.hex() in appraisal.claims[1].value
    assert appraisal.until_s > NOW_S


def test_the_real_report_whose_guest_may_be_debugged_is_refused_though_its_signature_is_good(private: Path) -> None:
    raw, endorsements = snp(private, "go-sev-guest (DEBUG)")
    assert refused(raw, endorsements, policy_for(raw)) == "debug"


def test_the_real_report_that_came_without_its_chips_certificate_is_refused(private: Path) -> None:
    raw, endorsements = snp(private, "GCE Milan")
    assert refused(raw, endorsements, policy_for(raw)) == "endorsements"


def test_the_certificate_of_a_real_turin_chip_leads_to_the_pinned_root(private: Path) -> None:
    leaf = load_certificate((private / "sev" / "virtee_vcek_turin.der").read_bytes(), "vcek")
    above = amd_chain(private / "sev", "turin_vcek")
    chain = [leaf, load_certificate(above["ask"], "ask"), load_certificate(above["ark"], "ark")]
    assert verify_chain(chain, frozenset(AMD_ROOTS), NOW_S) > NOW_S


@pytest.mark.parametrize("name", GENUINE)
def test_a_bit_flipped_anywhere_in_a_real_report_is_refused(private: Path, name: str) -> None:
    raw, endorsements = snp(private, name)
    policy = policy_for(raw)
    for place in range(0, len(raw), 37):
        broken = bytearray(raw)
        broken[place] ^= 1 << place % 8
        assert refused(bytes(broken), endorsements, policy), place


def test_a_real_report_with_another_real_chips_certificate_is_refused(private: Path) -> None:
    raw, endorsements = snp(private, "virtee Milan")
    other = snp(private, "dstack Milan")[1]["vcek"]
    assert refused(raw, {**endorsements, "vcek": other}, policy_for(raw)) == "signature"


def test_a_real_report_under_amds_firmware_of_a_later_day_is_too_old(private: Path) -> None:
    raw, endorsements = snp(private, "virtee Milan")
    assert refused(raw, endorsements, policy_for(raw, minimum_tcb=TcbVersion(3, 0, 8, 116))) == "tcb"


def test_a_real_report_is_refused_once_its_certificate_has_expired(private: Path) -> None:
    raw, endorsements = snp(private, "virtee Milan")
    assert refused(raw, endorsements, policy_for(raw), datetime(2031, 1, 1, tzinfo=UTC).timestamp()) == "certificates"


def test_a_real_revocation_list_is_read_and_refused_once_it_is_old(private: Path) -> None:
    lists = blocks(private / "openpcc" / "sev_certificates.txt", "X509 CRL")
    endorsements = snp(private, "virtee Milan")[1]
    chain = [load_certificate(endorsements[name], name) for name in ("vcek", "ask", "ark")]
    then = datetime(2025, 9, 1, tzinfo=UTC).timestamp()
    assert check_revocation(lists[1], chain, then) > then
    with pytest.raises(EvidenceError, match="not current"):
        check_revocation(lists[1], chain, NOW_S)
    with pytest.raises(EvidenceError, match="not signed by its root"):
        check_revocation(lists[0], chain, then)


def test_a_machine_of_our_own_make_is_believed_from_end_to_end_by_a_policy_that_pins_its_root() -> None:
    machine = SnpMachine.make()
    claims = verify(machine.evidence(), machine.policy(), NOW_S, NONCE)
    assert claims.evidence_type == "sev-snp"
    assert [claim.name for claim in claims.claims] == ["hardware", "measurement", "tcb", "key", "release", "model"]
    assert all(claim.proves and claim.does_not_prove and claim.trusted_parties for claim in claims.claims)
    assert any("TEE.fail" in party for claim in claims.claims for party in claim.trusted_parties)
    assert "revocation not checked" in claims.claims[0].value


def test_the_claims_end_when_the_first_certificate_does() -> None:
    machine = SnpMachine.make()
    soon = datetime.fromtimestamp(NOW_S + 60, UTC)
    vcek = certify("SEV-VCEK", machine.ask, key=machine.vcek.key, ca=False, end=soon, extensions=amd_extensions())
    machine = replace(machine, vcek=vcek)
    assert verify(machine.evidence(), machine.policy(), NOW_S, NONCE).expires_s == NOW_S + 60


def test_a_revocation_list_that_the_policy_asks_for_must_come_be_current_and_name_no_link() -> None:
    machine = SnpMachine.make()
    policy = machine.policy(require_crl=True)
    evidence = machine.evidence()
    with pytest.raises(EvidenceError, match="without AMD's revocation list"):
        verify(evidence, policy, NOW_S, NONCE)
    evidence.endorsements.append(Endorsement(name="crl", value=revocation_list(amd_root())))
    assert "not revoked" in verify(evidence, policy, NOW_S, NONCE).claims[0].value
    for bad, message in (
        (revocation_list(amd_root(), machine.ask), "has been revoked"),
        (revocation_list(amd_root(), end=datetime(2021, 1, 1, tzinfo=UTC)), "not current"),
        (b"list", "does not parse"),
    ):
        evidence.endorsements[-1].value = bad
        with pytest.raises(EvidenceError, match=message):
            verify(evidence, machine.policy(), NOW_S, NONCE)


@pytest.mark.parametrize(
    ("fields", "claim"),
    [
        ({0: struct.pack("<IIQ", 3, 0, 0xB0000)}, "debug"),
        ({0: struct.pack("<IIQ", 3, 0, 0x70000)}, "migration"),
        ({0: struct.pack("<IIQ", 3, 0, 0x10000)}, "migration"),
        ({0: struct.pack("<I", 9)}, "report"),
        ({0x30: b"\x01"}, "vmpl"),
        ({0x34: b"\x02"}, "report"),
        ({0x48: b"\x1c"}, "signature"),
        ({0x48: b"\x04"}, "endorsements"),
        ({0x90: b"x"}, "measurement"),
        ({0x180: b"\x03"}, "tcb"),
        ({0x188: b"\x1a"}, "chip"),
        ({0x1A0: b"x"}, "chip"),
        ({0x1A0: bytes(64), 0x48: b"\x02"}, "chip"),
        ({0x1E0: b"\x03"}, "tcb"),
        ({0x1F0: b"\x03"}, "tcb"),
    ],
    ids=str,
)
def test_a_field_that_is_not_as_it_must_be_is_refused_though_the_chip_signed_it(fields: dict[int, bytes], claim: str) -> None:
    machine = SnpMachine.make(fields=fields)
    assert refused(machine.report(bytes(64)), dict(machine.attest(bytes(64)).endorsements), machine.policy()) == claim


def test_host_data_id_key_and_author_key_are_pinned_where_the_policy_names_them() -> None:
    machine = SnpMachine.make(fields={0xC0: b"h" * 32, 0xE0: b"i" * 48, 0x110: b"a" * 48, 0x48: b"\x01"})
    named = {"host_data": b"h" * 32, "id_keys": frozenset({b"i" * 48}), "author_keys": frozenset({b"a" * 48})}
    verify(machine.evidence(), machine.policy(**named), NOW_S, NONCE)
    for name, value in (("host_data", b"x" * 32), ("id_keys", frozenset({b"x" * 48})), ("author_keys", frozenset({b"x" * 48}))):
        with pytest.raises(EvidenceError):
            verify(machine.evidence(), machine.policy(**named | {name: value}), NOW_S, NONCE)


def test_a_report_signed_by_a_key_that_was_leased_to_the_cloud_says_so() -> None:
    machine = SnpMachine.make(fields={0x48: b"\x04", 0x1A0: bytes(64)})
    evidence = machine.evidence()
    next(each for each in evidence.endorsements if each.name == "vcek").name = "vlek"
    assert "leased to the cloud" in verify(evidence, machine.policy(), NOW_S, NONCE).claims[0].value


def test_a_turin_processor_is_read_by_its_own_layout() -> None:
    machine = SnpMachine.make()
    tcb = TcbVersion(bootloader=2, tee=1, snp=3, microcode=80, fmc=1)
    raw = bytes((1, 2, 1, 3, 0, 0, 0, 80))
    numbers = {"3.1": 2, "3.2": 1, "3.3": 3, "3.8": 80, "3.9": 1}
    extensions = {f"1.3.6.1.4.1.3704.1.{oid}": bytes((2, 1, value)) for oid, value in numbers.items()} | {"1.3.6.1.4.1.3704.1.4": CHIP[:8]}
    fields = {0x180: raw, 0x1E0: raw, 0x1F0: raw, 0x188: b"\x1a", 0x1A0: CHIP[:8].ljust(64, b"\0")}
    turin = replace(machine, vcek=certify("SEV-VCEK", machine.ask, ca=False, extensions=extensions), fields=fields)
    assert "FMC 1" in verify(turin.evidence(), turin.policy(minimum_tcb=tcb), NOW_S, NONCE).claims[2].value
    with pytest.raises(EvidenceError, match="too old"):
        verify(turin.evidence(), turin.policy(minimum_tcb=replace(tcb, fmc=2)), NOW_S, NONCE)


@pytest.mark.parametrize(
    "change", [{"measurements": frozenset()}, {"measurements": frozenset({b"short"})}, {"vmpl": 4}, {"host_data": b""}], ids=str
)
def test_a_policy_that_would_pin_nothing_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="bytes"):
        SnpMachine.make().policy(**change)
