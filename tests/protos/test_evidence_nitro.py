"""Nitro: real documents at their time, late, broken and of debug mode, and the whole path on hardware of our own make."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import cbor2
import pytest

from hardware import MEASUREMENT, NONCE, NOW_S, NitroMachine
from leanto_wire.errors import EvidenceError
from leanto_wire.evidence import verify
from leanto_wire.evidence.certificates import fingerprint, load_certificate
from leanto_wire.evidence.cose import decode
from leanto_wire.evidence.nitro import verify_document
from leanto_wire.policies import AWS_ROOT, NitroPolicy
from samples import nitro

GENUINE = (("nitro_attestation.bin", 1766678659), ("nsm_qvl_nitro_attestation.bin", 1766668537))


@pytest.fixture(scope="module")
def private(data_dir: Path) -> Path:
    if not (data_dir / "private" / "nitro").is_dir():
        pytest.skip("the samples of evidence are absent from the data folder")
    return data_dir / "private"


def policy_for(raw: bytes) -> NitroPolicy:
    return NitroPolicy(frozenset({cbor2.loads(cbor2.loads(raw)[2])["pcrs"][0]}))


def refused(raw: bytes, policy: NitroPolicy, now_s: float = NOW_S) -> str:
    with pytest.raises(EvidenceError) as caught:
        verify_document(raw, policy, now_s)
    return caught.value.claim


def test_the_pinned_root_is_the_key_of_the_root_that_aws_publishes(private: Path) -> None:
    root = load_certificate((private / "nitro" / "AWS_NitroEnclaves_Root-G1.pem").read_bytes(), "root")
    assert fingerprint(root) == AWS_ROOT


@pytest.mark.parametrize(("name", "made_s"), GENUINE)
def test_the_2_real_documents_verify_at_their_time_and_are_refused_3_hours_later(private: Path, name: str, made_s: float) -> None:
    raw = nitro(private, name)
    document, appraisal = verify_document(raw, policy_for(raw), made_s)
    assert document.module_id.startswith("i-")
    assert 0 < appraisal.until_s - made_s <= 3 * 3600 + 60
    assert refused(raw, policy_for(raw), appraisal.until_s) == "certificates"
    assert refused(raw, policy_for(raw), made_s - 3600) == "certificates"


def test_the_1_real_document_of_an_enclave_in_debug_mode_is_refused(private: Path) -> None:
    raw = nitro(private, "nitro_attestation_dbg.bin")
    assert refused(raw, NitroPolicy(frozenset({MEASUREMENT})), 1766650846) == "debug"


@pytest.mark.parametrize(("name", "made_s"), GENUINE)
def test_a_bit_flipped_anywhere_in_a_real_document_is_refused(private: Path, name: str, made_s: float) -> None:
    raw = nitro(private, name)
    policy = policy_for(raw)
    for place in range(0, len(raw), 61):
        broken = bytearray(raw)
        broken[place] ^= 1 << place % 8
        assert refused(bytes(broken), policy, made_s), place


def test_an_enclave_of_our_own_make_is_believed_from_end_to_end_by_a_policy_that_pins_its_root() -> None:
    machine = NitroMachine.make()
    claims = verify(machine.evidence(), machine.policy(), NOW_S, NONCE)
    assert claims.evidence_type == "nitro"
    assert [claim.name for claim in claims.claims] == ["hardware", "measurement", "key", "release", "model"]
    assert all(claim.proves and claim.does_not_prove and claim.trusted_parties for claim in claims.claims)


@pytest.mark.parametrize(
    ("changes", "claim"),
    [
        ({"pcrs": {0: bytes(48)}}, "debug"),
        ({"pcrs": {1: MEASUREMENT}}, "debug"),
        ({"pcrs": {0: b"x" * 48}}, "measurement"),
        ({"pcrs": {0: b"short"}}, "report"),
        ({"pcrs": {99: MEASUREMENT}}, "report"),
        ({"pcrs": {}}, "report"),
        ({"pcrs": [MEASUREMENT]}, "report"),
        ({"digest": "SHA256"}, "report"),
        ({"module_id": "\x1b[2J"}, "report"),
        ({"certificate": b"none"}, "certificates"),
        ({"certificate": "text"}, "report"),
        ({"cabundle": []}, "report"),
        ({"cabundle": [b"x"] * 20}, "report"),
        ({"user_data": None}, "binding"),
        ({"user_data": "text"}, "report"),
        ({"timestamp": 1.5}, "report"),
        ({"timestamp": datetime(2025, 1, 1, tzinfo=UTC)}, "report"),
    ],
    ids=str,
)
def test_a_field_that_is_not_as_it_must_be_is_refused_though_the_enclaves_host_signed_it(changes: dict[str, Any], claim: str) -> None:
    machine = NitroMachine.make(changes=changes)
    with pytest.raises(EvidenceError) as caught:
        verify(machine.evidence(), machine.policy(), NOW_S, NONCE)
    assert caught.value.claim == claim


def test_a_pcr_that_the_policy_names_besides_the_first_must_match_too() -> None:
    machine = NitroMachine.make()
    verify(machine.evidence(), machine.policy(pcr8=frozenset({MEASUREMENT})), NOW_S, NONCE)
    with pytest.raises(EvidenceError, match="PCR 8"):
        verify(machine.evidence(), machine.policy(pcr8=frozenset({b"x" * 48})), NOW_S, NONCE)


@pytest.mark.parametrize("protected", [{}, {1: -7}, {1: -35, 2: [99]}, {1: -36}], ids=str)
def test_another_algorithm_than_es384_is_refused(protected: dict[int, Any]) -> None:
    machine = replace(NitroMachine.make(), protected=cbor2.dumps(protected))
    assert refused(machine.attest(bytes(64)).report, machine.policy()) == "signature"


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\x81" * 1000,
        b"\x9f" * 1000,
        b"\xbf" * 1000,
        b"\x9b" + b"\xff" * 8,
        b"[" + b"\xff" * 8,
        b"\xc5\x82\x1a\xff\xff\xff\xff\x01",
        b"\xd8\x1d\x00",
        b"\xfb" + bytes(8),
        b"\xff",
        b"\x9f",
        b"\xa2\x01\x01\x01\x01",
        b"\x00\x00",
        b"\x99\xff\xff" + bytes(70000),
        b"b\xff\xff",
    ],
    ids=lambda raw: raw[:6].hex(),
)
def test_cbor_that_is_deep_long_cut_tagged_or_repeats_itself_is_refused_before_it_is_built(raw: bytes) -> None:
    with pytest.raises(EvidenceError):
        decode(raw)


def test_a_policy_that_would_pin_debug_mode_or_nothing_is_refused() -> None:
    for pins in (frozenset({bytes(48)}), frozenset[bytes](), frozenset({b"short"})):
        with pytest.raises(ValueError, match="PCR"):
            NitroPolicy(pins)
