"""Attacks on evidence: what a machine in the middle, a dishonest operator or a thief of old reports may try. Each is refused."""

from __future__ import annotations

import hashlib
import json
import struct
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from hardware import CHIP, NONCE, NOW_S, TCB, NitroMachine, NvidiaService, SnpMachine, amd_extensions, certify, key_config, respond
from leanto_cloud.attesters.base import Attestation
from leanto_wire.development import DevelopmentPolicy, sign_report
from leanto_wire.errors import EvidenceError
from leanto_wire.evidence import Policy, verify
from leanto_wire.evidence.bounds import MAX_ENDORSEMENT_BYTES, MAX_REPORT_BYTES
from leanto_wire.keys import PrivateKey
from leanto_wire.policies import TcbVersion
from leanto_wire.report_data import accelerator_nonce, report_data
from leanto_wire.v1.private_compute_pb2 import (
    EVIDENCE_TYPE_DEVELOPMENT,
    EVIDENCE_TYPE_NITRO,
    EVIDENCE_TYPE_SEV_SNP,
    Endorsement,
    EvidenceResponse,
)

MACHINE = SnpMachine.make()
SERVICE = NvidiaService.make()
EARLIER = bytes(32)


def refused(evidence: EvidenceResponse, policy: Policy | None = None, *, now_s: float = NOW_S) -> str:
    with pytest.raises(EvidenceError) as caught:
        verify(evidence, policy or MACHINE.policy(), now_s, NONCE)
    assert "\n" not in str(caught.value)
    return caught.value.claim


def endorse(evidence: EvidenceResponse, name: str, value: bytes) -> EvidenceResponse:
    """With one endorsement replaced."""
    kept = [each for each in evidence.endorsements if each.name != name]
    del evidence.endorsements[:]
    evidence.endorsements.extend([*kept, Endorsement(name=name, value=value)])
    return evidence


def test_evidence_of_an_earlier_exchange_is_refused() -> None:
    assert refused(MACHINE.evidence(nonce=EARLIER)) == "freshness"


def test_an_old_report_under_our_nonce_is_refused() -> None:
    replayed = MACHINE.evidence(nonce=EARLIER)
    replayed.nonce = NONCE
    assert refused(replayed) == "binding"


def test_evidence_for_an_expired_key_is_refused() -> None:
    assert refused(MACHINE.evidence(), now_s=NOW_S + 3600) == "expiry"


def test_a_key_that_claims_to_live_for_a_year_is_refused() -> None:
    assert refused(MACHINE.evidence(config=key_config(expires_unix_ms=int((NOW_S + 365 * 86_400) * 1000)))) == "expiry"


def test_the_honest_evidence_of_another_node_of_another_maker_is_refused() -> None:
    assert refused(NitroMachine.make().evidence()) == "type"
    assert refused(SnpMachine.make(root=certify("ARK-Other")).evidence()) == "root"


def test_a_guest_launched_from_another_image_is_refused() -> None:
    assert refused(SnpMachine.make(fields={0x90: b"evil"}).evidence()) == "measurement"


def test_a_guest_that_the_host_may_debug_is_refused() -> None:
    assert refused(SnpMachine.make(fields={0: struct.pack("<IIQ", 3, 0, 0xB0000)}).evidence()) == "debug"


def test_a_report_whose_debug_bit_was_cleared_on_the_way_is_refused() -> None:
    evidence = SnpMachine.make(fields={0: struct.pack("<IIQ", 3, 0, 0xB0000)}).evidence()
    evidence.report = evidence.report[:8] + struct.pack("<Q", 0x30000) + evidence.report[16:]
    assert refused(evidence) == "signature"


def test_an_enclave_in_debug_mode_is_refused() -> None:
    machine = NitroMachine.make(changes={"pcrs": dict.fromkeys(range(9), bytes(48))})
    assert refused(machine.evidence(), machine.policy()) == "debug"


def test_a_processor_with_old_firmware_is_refused() -> None:
    newer = TcbVersion(bootloader=4, tee=1, snp=24, microcode=213)
    assert refused(MACHINE.evidence(), MACHINE.policy(minimum_tcb=newer)) == "tcb"


def test_old_firmware_under_the_certificate_of_new_firmware_is_refused() -> None:
    old = bytes((TCB.bootloader, TCB.tee, 0, 0, 0, 0, TCB.snp - 1, TCB.microcode))
    assert refused(SnpMachine.make(fields={0x180: old}).evidence()) == "tcb"


def test_a_guest_launched_on_firmware_that_was_old_then_is_refused() -> None:
    old = bytes((TCB.bootloader, TCB.tee, 0, 0, 0, 0, TCB.snp - 1, TCB.microcode))
    assert refused(SnpMachine.make(fields={0x1F0: old}).evidence()) == "tcb"


def test_leaving_the_gpu_evidence_out_is_refused_where_the_policy_requires_gpus() -> None:
    assert refused(MACHINE.evidence(), MACHINE.policy(nvidia=SERVICE.requirement())) == "gpu"


def test_gpu_evidence_of_a_kind_that_nobody_knows_does_not_stand_for_nvidias() -> None:
    evidence = SnpMachine.make(nvidia=SERVICE).evidence()
    evidence.accelerators[0].type = 7  # type: ignore[assignment]
    assert refused(evidence, MACHINE.policy(nvidia=SERVICE.requirement())) == "gpu"


def test_the_gpu_evidence_of_another_machine_is_refused() -> None:
    evidence = SnpMachine.make(nvidia=SERVICE).evidence()
    evidence.accelerators[0].token = SERVICE.bundle(accelerator_nonce(bytes(64)))
    assert refused(evidence, MACHINE.policy(nvidia=SERVICE.requirement())) == "gpu"


def test_a_gpu_token_that_nobody_signed_is_refused() -> None:
    unsigned = replace(SERVICE, header={"alg": "none"})
    assert refused(SnpMachine.make(nvidia=unsigned).evidence(), MACHINE.policy(nvidia=SERVICE.requirement())) in ("signature", "token")


def test_a_gpu_token_signed_with_the_public_key_as_a_shared_secret_is_refused() -> None:
    confused = replace(SERVICE, header={"alg": "HS384"})
    assert refused(SnpMachine.make(nvidia=confused).evidence(), MACHINE.policy(nvidia=SERVICE.requirement())) == "signature"


def test_gpu_evidence_under_a_self_made_root_is_refused() -> None:
    assert refused(SnpMachine.make(nvidia=NvidiaService.make()).evidence(), MACHINE.policy(nvidia=SERVICE.requirement())) == "root"


def test_one_sound_gpu_cannot_be_passed_off_as_eight() -> None:
    copies = replace(SERVICE, devices=8, changes={"ueid": "the only one"})
    policy = MACHINE.policy(nvidia=SERVICE.requirement(devices=8))
    assert refused(SnpMachine.make(nvidia=copies).evidence(), policy) == "gpu"


def test_a_token_of_an_unsound_gpu_left_out_of_the_bundle_is_missed() -> None:
    evidence = SnpMachine.make(nvidia=replace(SERVICE, devices=2)).evidence()
    bundle = json.loads(evidence.accelerators[0].token)
    del bundle[1]["GPU-1"]
    evidence.accelerators[0].token = json.dumps(bundle).encode()
    assert refused(evidence, MACHINE.policy(nvidia=SERVICE.requirement())) == "gpu"


def test_another_key_under_a_genuine_report_is_refused() -> None:
    evidence = MACHINE.evidence()
    evidence.key_config = key_config(public_key=PrivateKey.generate().public_bytes)
    assert refused(evidence) == "binding"


@pytest.mark.parametrize("suite", [0, 2, 0xFFFF])
def test_a_node_that_offers_another_suite_is_refused_and_not_negotiated_with(suite: int) -> None:
    assert refused(MACHINE.evidence(config=key_config(suite=suite))) == "key"


def test_an_older_protocol_is_refused() -> None:
    assert refused(MACHINE.evidence(config=key_config(protocol=0))) == "key"


def test_another_release_and_another_log_than_the_policy_names_are_refused() -> None:
    assert refused(MACHINE.evidence(), MACHINE.policy(releases=frozenset({b"x" * 32}))) == "release"
    evidence = MACHINE.evidence(config=key_config(log_origin="evil.example/log"))
    assert refused(evidence, MACHINE.policy(log_origin="good.example/log")) == "log"


def test_development_evidence_that_calls_itself_hardware_is_refused() -> None:
    root = Ed25519PrivateKey.generate()
    signed = sign_report(report_data(EVIDENCE_TYPE_SEV_SNP, key_config(), NONCE), root)
    assert refused(respond(EVIDENCE_TYPE_SEV_SNP, Attestation(signed))) == "report"


def test_hardware_evidence_that_calls_itself_development_is_refused() -> None:
    evidence = MACHINE.evidence()
    evidence.type = EVIDENCE_TYPE_DEVELOPMENT
    assert refused(evidence, DevelopmentPolicy(Ed25519PrivateKey.generate().public_key().public_bytes_raw())) == "signature"


def test_a_report_of_one_type_moved_under_anothers_number_is_refused() -> None:
    evidence = MACHINE.evidence()
    evidence.type = EVIDENCE_TYPE_NITRO
    assert refused(evidence, NitroMachine.make().policy()) == "report"


def test_the_certificate_of_another_chip_is_refused() -> None:
    other = certify("SEV-VCEK", MACHINE.ask, ca=False, extensions=amd_extensions(chip=CHIP[::-1]))
    assert refused(endorse(MACHINE.evidence(), "vcek", other.der)) == "signature"


def test_a_stolen_chip_key_under_the_name_of_another_chip_is_refused() -> None:
    moved = certify("SEV-VCEK", MACHINE.ask, key=MACHINE.vcek.key, ca=False, extensions=amd_extensions(chip=CHIP[::-1]))
    assert refused(endorse(MACHINE.evidence(), "vcek", moved.der)) == "chip"


def test_a_chain_from_a_self_made_root_with_the_vendors_name_is_refused() -> None:
    impostor = SnpMachine.make(root=certify("ARK-Synthetic"))
    assert refused(impostor.evidence()) == "root"


def test_a_self_made_chain_that_shows_the_vendors_root_is_refused() -> None:
    impostor = SnpMachine.make(root=certify("ARK-Synthetic"))
    assert refused(endorse(impostor.evidence(), "ark", MACHINE.root.der)) == "certificates"


def test_a_chips_certificate_cannot_issue_another() -> None:
    forged = certify("SEV-VCEK", MACHINE.vcek, ca=False, extensions=amd_extensions())
    evidence = endorse(endorse(MACHINE.evidence(), "vcek", forged.der), "ask", MACHINE.vcek.der)
    assert refused(evidence) == "certificates"


def test_an_expired_certificate_in_the_chain_is_refused() -> None:
    past = certify(
        "SEV-VCEK", MACHINE.ask, key=MACHINE.vcek.key, ca=False, end=datetime(2024, 1, 1, tzinfo=UTC), extensions=amd_extensions()
    )
    assert refused(endorse(MACHINE.evidence(), "vcek", past.der)) == "certificates"


def test_a_signature_of_zeros_is_refused() -> None:
    evidence = MACHINE.evidence()
    evidence.report = evidence.report[:0x2A0] + bytes(512)
    assert refused(evidence) == "signature"


def test_a_report_that_says_it_is_signed_by_no_key_is_refused() -> None:
    assert refused(SnpMachine.make(fields={0x48: b"\x1c"}).evidence()) == "signature"


def test_oversize_endorsements_are_refused_before_they_are_parsed() -> None:
    assert refused(endorse(MACHINE.evidence(), "collateral", bytes(MAX_ENDORSEMENT_BYTES + 1))) == "size"


def test_an_oversize_report_is_refused_before_it_is_parsed() -> None:
    assert refused(respond(EVIDENCE_TYPE_SEV_SNP, Attestation(bytes(MAX_REPORT_BYTES + 1)))) == "size"


def test_an_oversize_key_configuration_is_refused_before_it_is_parsed() -> None:
    assert refused(MACHINE.evidence(config=key_config(model_id="m" * 5000))) == "size"


def test_a_flood_of_endorsements_a_repeated_and_an_unknown_one_are_refused() -> None:
    for names in (["vcek"] * 2, ["strange"], [f"e{number}" for number in range(10_000)]):
        evidence = MACHINE.evidence()
        evidence.endorsements.extend(Endorsement(name=name) for name in names)
        assert refused(evidence) == "endorsements"


@pytest.mark.parametrize(
    "raw", [b"\x81" * 30_000, b"\x9f" * 30_000, b"\xa1\x00" * 15_000, b"\xd2" * 30_000, b"\x9b" + b"\xff" * 8], ids=len
)
def test_a_deep_or_endless_cbor_document_is_refused(raw: bytes) -> None:
    assert refused(respond(EVIDENCE_TYPE_NITRO, Attestation(raw)), NitroMachine.make().policy()) in ("size", "report")


def test_a_deep_json_bundle_of_gpu_evidence_is_refused() -> None:
    evidence = SnpMachine.make(nvidia=SERVICE).evidence()
    evidence.accelerators[0].token = b"[" * 100_000
    assert refused(evidence, MACHINE.policy(nvidia=SERVICE.requirement())) == "token"


def test_two_meanings_of_one_json_name_are_refused() -> None:
    evidence = SnpMachine.make(nvidia=SERVICE).evidence()
    evidence.accelerators[0].token = b'[["JWT","a.b.c"],{"GPU-0":"a.b.c","GPU-0":"d.e.f"}]'
    assert refused(evidence, MACHINE.policy(nvidia=SERVICE.requirement())) == "token"


def test_a_field_cannot_be_moved_into_its_neighbour_without_changing_the_report_data() -> None:
    found = {report_data(2, b"ab", b"c"), report_data(2, b"a", b"bc"), report_data(2, b"abc", b""), report_data(3, b"ab", b"c")}
    assert len(found) == 4
    assert accelerator_nonce(bytes(64)) != hashlib.sha256(bytes(64)).digest()
