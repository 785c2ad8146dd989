"""Evidence: what verifies, what every lie is refused for, and that no other policy accepts the development type."""

from __future__ import annotations

import base64
from dataclasses import dataclass

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from leanto_wire.development import DevelopmentPolicy, sign_report
from leanto_wire.errors import EvidenceError
from leanto_wire.evidence import verify
from leanto_wire.keys import PrivateKey
from leanto_wire.report_data import evidence_digest, report_data
from leanto_wire.v1.private_compute_pb2 import EVIDENCE_TYPE_DEVELOPMENT, EVIDENCE_TYPE_UNSPECIFIED, EvidenceResponse, KeyConfig

NOW_S = 1_800_000_000.0
NONCE = bytes(range(32))
RELEASE = b"r" * 32
ROOT = Ed25519PrivateKey.generate()
POLICY = DevelopmentPolicy(ROOT.public_key().public_bytes_raw())
PUBLIC = PrivateKey.generate().public_bytes


def config(**changes: object) -> bytes:
    fields: dict[str, object] = {"protocol": 1, "suite": 1, "public_key": PUBLIC, "expires_unix_ms": int((NOW_S + 3600) * 1000)}
    fields |= {"release_digest": RELEASE, "model_id": "pocket-large@abc"} | changes
    return KeyConfig(**fields).SerializeToString()  # type: ignore[arg-type]


def signed(
    key_config: bytes, root: Ed25519PrivateKey = ROOT, kind: int = EVIDENCE_TYPE_DEVELOPMENT, nonce: bytes = NONCE
) -> EvidenceResponse:
    report = sign_report(report_data(kind, key_config, nonce), root)
    return EvidenceResponse(type=kind, key_config=key_config, nonce=nonce, report=report)  # type: ignore[arg-type]


def refused_claim(evidence: EvidenceResponse, policy: DevelopmentPolicy = POLICY, now_s: float = NOW_S, nonce: bytes = NONCE) -> str:
    with pytest.raises(EvidenceError) as caught:
        verify(evidence, policy, now_s, nonce)
    assert "\n" not in str(caught.value)
    return caught.value.claim


def test_honest_evidence_gives_the_key_and_what_it_is_bound_to() -> None:
    claims = verify(signed(config()), POLICY, NOW_S, NONCE)
    assert claims.public_key == PUBLIC
    assert claims.release_digest == RELEASE
    assert claims.model_id == "pocket-large@abc"
    assert claims.expires_s == NOW_S + 3600
    assert claims.evidence_digest == evidence_digest(EVIDENCE_TYPE_DEVELOPMENT, config())


def test_every_claim_says_what_it_does_not_prove_and_whom_it_rests_on() -> None:
    claims = verify(signed(config()), POLICY, NOW_S, NONCE)
    assert [claim.name for claim in claims.claims] == ["key", "release", "model"]
    assert all(claim.proves and claim.does_not_prove and claim.trusted_parties for claim in claims.claims)
    assert "nothing measured the machine" in claims.claims[1].does_not_prove


def test_evidence_of_another_root_is_refused() -> None:
    assert refused_claim(signed(config(), Ed25519PrivateKey.generate())) == "signature"


def test_evidence_for_another_nonce_is_refused() -> None:
    assert refused_claim(signed(config(), nonce=b"n" * 32)) == "freshness"


def test_evidence_that_repeats_our_nonce_but_signed_another_is_refused() -> None:
    evidence = signed(config(), nonce=b"n" * 32)
    evidence.nonce = NONCE
    assert refused_claim(evidence) == "signature"


def test_a_substituted_key_is_refused() -> None:
    evidence = signed(config())
    evidence.key_config = config(public_key=PrivateKey.generate().public_bytes)
    assert refused_claim(evidence) == "signature"


def test_an_expired_key_is_refused() -> None:
    assert refused_claim(signed(config()), now_s=NOW_S + 3600) == "expiry"


def test_a_key_that_lives_longer_than_the_policy_allows_is_refused() -> None:
    assert refused_claim(signed(config(expires_unix_ms=2**63))) == "expiry"


@pytest.mark.parametrize("change", [{"protocol": 2}, {"suite": 0}, {"suite": 2}, {"public_key": b"short"}], ids=str)
def test_another_protocol_suite_or_no_key_is_refused(change: dict[str, object]) -> None:
    assert refused_claim(signed(config(**change))) == "key"


def test_a_release_that_the_policy_does_not_name_is_refused() -> None:
    assert refused_claim(signed(config()), DevelopmentPolicy(POLICY.root, releases=frozenset({b"x" * 32}))) == "release"


def test_a_release_that_the_policy_names_is_accepted() -> None:
    policy = DevelopmentPolicy(POLICY.root, releases=frozenset({RELEASE}))
    assert verify(signed(config()), policy, NOW_S, NONCE).release_digest == RELEASE


def test_a_release_digest_of_the_wrong_size_is_refused() -> None:
    assert refused_claim(signed(config(release_digest=b""))) == "release"


def test_a_model_name_with_control_characters_is_refused() -> None:
    assert refused_claim(signed(config(model_id="pocket\x1b[2J"))) == "model"


def test_evidence_of_no_type_is_refused_even_if_signed() -> None:
    assert refused_claim(signed(config(), kind=EVIDENCE_TYPE_UNSPECIFIED)) == "type"


@dataclass(frozen=True)
class HardwarePolicy:
    """A policy of another type, with every field that the development policy has."""

    root: bytes
    releases: frozenset[bytes] | None = None
    max_lifetime_s: float = 1e9
    development: bool = True


class Subclassed(DevelopmentPolicy):
    """A policy that inherits from the development policy."""


@pytest.mark.parametrize(
    "policy", [HardwarePolicy(POLICY.root), Subclassed(POLICY.root), None, POLICY.root], ids=lambda p: type(p).__name__
)
def test_no_other_type_of_policy_accepts_development_evidence(policy: object) -> None:
    assert refused_claim(signed(config()), policy) == "type"  # type: ignore[arg-type]


@settings(max_examples=200)
@given(st.data())
def test_any_flipped_bit_of_the_evidence_is_refused(data: st.DataObject) -> None:
    raw = bytearray(signed(config()).SerializeToString())
    bit = data.draw(st.integers(0, len(raw) * 8 - 1))
    raw[bit // 8] ^= 1 << bit % 8
    try:
        evidence = EvidenceResponse.FromString(bytes(raw))
    except Exception as error:
        assert type(error).__name__ == "DecodeError"  # noqa: PT017 - protobuf's own refusal is as good
        return
    refused_claim(evidence)


@given(st.binary(max_size=300), st.binary(max_size=80))
def test_random_bytes_are_refused(key_config: bytes, report: bytes) -> None:
    refused_claim(EvidenceResponse(type=EVIDENCE_TYPE_DEVELOPMENT, key_config=key_config, nonce=NONCE, report=report))


@given(st.binary(max_size=100))
def test_signed_random_bytes_are_refused_as_well(key_config: bytes) -> None:
    refused_claim(signed(key_config))


@pytest.mark.parametrize("root", ["", "not base64!", base64.b64encode(b"short").decode(), "é"])
def test_a_root_that_is_none_is_refused(root: str) -> None:
    with pytest.raises(ValueError, match="development root"):
        DevelopmentPolicy.from_base64(root)
