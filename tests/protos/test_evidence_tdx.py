"""TDX: a real quote at its time, late, and broken; another of an SGX enclave, and one whose platform Intel does not know."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from hardware import NONCE, key_config
from leanto_wire.errors import EvidenceError
from leanto_wire.evidence import tdx, verify
from leanto_wire.policies import TdxPolicy
from leanto_wire.v1.private_compute_pb2 import EVIDENCE_TYPE_TDX, Endorsement, EvidenceResponse

pytest.importorskip("dcap_qvl")
ITS_TIME_S = datetime(2025, 7, 1, tzinfo=UTC).timestamp()
MRTD = "91eb2b44d141d4ece09f0c75c2c53d247a3c68edd7fafe8a3520c942a604a407de03ae6dc5f87f27428b2538873118b7"
POLICY = TdxPolicy(frozenset({bytes.fromhex(MRTD)}))


@pytest.fixture(scope="module")
def samples(data_dir: Path) -> Path:
    if not (data_dir / "private" / "tdx").is_dir():
        pytest.skip("the samples of evidence are absent from the data folder")
    return data_dir / "private" / "tdx"


def sample(folder: Path, name: str = "tdx_quote") -> tuple[bytes, dict[str, bytes]]:
    return (folder / f"dcapqvl_{name}").read_bytes(), {"collateral": (folder / f"dcapqvl_{name}_collateral.json").read_bytes()}


def refused(raw: bytes, endorsements: dict[str, bytes], policy: TdxPolicy = POLICY, now_s: float = ITS_TIME_S) -> str:
    with pytest.raises(EvidenceError) as caught:
        tdx.verify_quote(raw, endorsements, policy, now_s)
    return caught.value.claim


def test_the_1_real_quote_verifies_at_its_time(samples: Path) -> None:
    report, appraisal = tdx.verify_quote(*sample(samples), POLICY, ITS_TIME_S)
    assert report.tcb_status == "UpToDate"
    assert appraisal.until_s == datetime(2025, 7, 19, 10, 0, 35, tzinfo=UTC).timestamp()
    assert "RTMR0, RTMR1, RTMR2, RTMR3" in appraisal.claims[1].does_not_prove


def test_claims_end_with_the_revocation_list_that_ends_before_the_rest_of_the_collateral(samples: Path) -> None:
    raw, endorsements = sample(samples)
    until_s = tdx.verify_quote(raw, endorsements, POLICY, ITS_TIME_S)[1].until_s
    assert tdx.verify_quote(raw, endorsements, POLICY, until_s - 1)
    assert refused(raw, endorsements, now_s=until_s + 1) == "signature"


@pytest.mark.parametrize(
    "earliest", ["tcb_info", "qe_identity", "root_ca_crl", "pck_crl", "a certificate of the chains", "the quote's own"]
)
def test_whatever_part_of_the_collateral_ends_first_ends_the_claims(earliest: str, samples: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw, endorsements = sample(samples)
    parts = json.loads(endorsements["collateral"])
    soon = datetime(2025, 7, 2, tzinfo=UTC)
    report = tdx.verify_quote(raw, endorsements, POLICY, ITS_TIME_S)[0]
    if earliest in ("tcb_info", "qe_identity"):
        parts[earliest] = re.sub(r'"nextUpdate":"[^"]+"', f'"nextUpdate":"{soon.isoformat()}"', parts[earliest])
    elif earliest in ("root_ca_crl", "pck_crl"):
        its = bytes.fromhex(parts[earliest])
        next_update = tdx._next_update
        monkeypatch.setattr(tdx, "_next_update", lambda der: soon if der == its else next_update(der))
    else:
        places = ("of the quote",) if earliest == "the quote's own" else ("tcb_info_issuer_chain",)
        chain_until = tdx._chain_until
        monkeypatch.setattr(tdx, "_chain_until", lambda pem, name: soon.timestamp() if name in places else chain_until(pem, name))
    monkeypatch.setattr(tdx, "_verified", lambda *_: report)  # what was changed is signed no more
    appraisal = tdx.verify_quote(raw, {"collateral": json.dumps(parts).encode()}, POLICY, ITS_TIME_S)[1]
    assert appraisal.until_s == soon.timestamp()


@pytest.mark.parametrize("part", ["root_ca_crl", "pck_crl", "pck_crl_issuer_chain", "tcb_info_issuer_chain", "qe_identity_issuer_chain"])
@pytest.mark.parametrize("said", [None, 5, "", "zz", "00ff", "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----"], ids=repr)
def test_collateral_with_a_part_that_is_none_is_refused(samples: Path, part: str, said: object) -> None:
    raw, endorsements = sample(samples)
    parts = json.loads(endorsements["collateral"]) | {part: said}
    assert refused(raw, {"collateral": json.dumps(parts).encode()}) in ("endorsements", "certificates")


@pytest.mark.parametrize(
    "when", [datetime(2025, 6, 1, tzinfo=UTC), datetime(2025, 8, 1, tzinfo=UTC), datetime(2028, 7, 1, tzinfo=UTC)], ids=str
)
def test_the_real_quote_is_refused_before_and_after_its_collateral_is_valid(samples: Path, when: datetime) -> None:
    assert refused(*sample(samples), now_s=when.timestamp()) == "signature"


def test_a_bit_flipped_in_what_the_real_quote_signs_is_refused(samples: Path) -> None:
    raw, endorsements = sample(samples)
    for place in range(48, 48 + 584 + 64, 23):
        broken = bytearray(raw)
        broken[place] ^= 1 << place % 8
        assert refused(bytes(broken), endorsements) in ("signature", "debug", "report"), place


def test_another_measurement_than_the_policy_names_is_refused(samples: Path) -> None:
    raw, endorsements = sample(samples)
    assert refused(raw, endorsements, TdxPolicy(frozenset({b"x" * 48}))) == "measurement"
    assert refused(raw, endorsements, replace(POLICY, rtmr1=frozenset({b"x" * 48}))) == "measurement"


def test_the_real_quote_of_a_platform_that_intel_does_not_know_is_refused(samples: Path) -> None:
    raw, endorsements = sample(samples, "tdx_quote_outdated")
    assert refused(raw, endorsements, now_s=datetime(2026, 3, 1, tzinfo=UTC).timestamp()) == "signature"


def test_a_real_quote_of_an_sgx_enclave_is_no_trust_domain(samples: Path) -> None:
    assert refused(*sample(samples, "sgx_quote")) == "report"


def test_a_status_that_the_policy_does_not_allow_is_refused(samples: Path) -> None:
    assert refused(*sample(samples), policy=replace(POLICY, tcb_statuses=frozenset({"SWHardeningNeeded"}))) == "tcb"


@pytest.mark.parametrize(
    ("change", "claim"),
    [
        ({"attributes": b"\x01" + bytes(7)}, "debug"),
        ({"attributes": b"\0\0\0\x20" + bytes(4)}, "migration"),
        ({"module_signer": b"x" * 48}, "module"),
    ],
    ids=str,
)
def test_a_domain_that_may_be_debugged_or_migrated_or_runs_under_a_strange_module_is_refused(
    samples: Path, change: dict[str, bytes], claim: str
) -> None:
    report = tdx.verify_quote(*sample(samples), POLICY, ITS_TIME_S)[0]
    with pytest.raises(EvidenceError) as caught:
        tdx._check_domain(replace(report, **change), POLICY)  # type: ignore[arg-type]
    assert caught.value.claim == claim


@pytest.mark.parametrize(
    "collateral", [b"", b"{}", b"[]", b'{"tcb_info": 5}', b"\xff", b"[" * 50_000, b'{"tcb_info": "{}", "tcb_info": "{}"}']
)
def test_collateral_that_is_none_is_refused(samples: Path, collateral: bytes) -> None:
    assert refused(sample(samples)[0], {"collateral": collateral}) == "endorsements"


def test_a_quote_without_collateral_is_refused(samples: Path) -> None:
    assert refused(sample(samples)[0], {}) == "endorsements"


def test_collateral_that_was_changed_is_refused(samples: Path) -> None:
    raw, endorsements = sample(samples)
    changed = json.loads(endorsements["collateral"])
    changed["tcb_info"] = changed["tcb_info"].replace('"UpToDate"', '"Revoked"', 1)
    assert refused(raw, {"collateral": json.dumps(changed).encode()}) == "signature"


def test_a_genuine_quote_for_other_data_than_our_key_and_nonce_is_refused(samples: Path) -> None:
    raw, endorsements = sample(samples)
    config = key_config(expires_unix_ms=int((ITS_TIME_S + 3600) * 1000))
    evidence = EvidenceResponse(type=EVIDENCE_TYPE_TDX, key_config=config, nonce=NONCE, report=raw)
    evidence.endorsements.append(Endorsement(name="collateral", value=endorsements["collateral"]))
    with pytest.raises(EvidenceError) as caught:
        verify(evidence, POLICY, ITS_TIME_S, NONCE)
    assert caught.value.claim == "binding"
