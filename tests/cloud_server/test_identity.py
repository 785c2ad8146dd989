"""The node's keys: rotation with overlap, expiry, and each request opened once."""

from __future__ import annotations

import pytest

from leanto_cloud import identity as module
from leanto_cloud.development import DevelopmentAttester
from leanto_cloud.errors import Refused
from leanto_cloud.identity import Identity
from leanto_wire.development import DevelopmentPolicy
from leanto_wire.evidence import Claims, verify
from leanto_wire.keys import public_key
from leanto_wire.seal import SUITE, Binding, seal_request
from leanto_wire.status import Refusal
from leanto_wire.v1.private_compute_pb2 import SealedRequest

NONCE = bytes(32)


class Setting:
    """An identity whose clock the test moves."""

    def __init__(self) -> None:
        self.now_s = 1_800_000_000.0
        self.attester = DevelopmentAttester()
        self.identity = Identity(self.attester, release_digest=bytes(32), model_id="m@1", lifetime_s=100.0, now_s=lambda: self.now_s)

    def claims(self) -> Claims:
        return verify(self.identity.evidence(NONCE), DevelopmentPolicy.from_base64(self.attester.root_base64), self.now_s, NONCE)

    def request(self, claims: Claims | None = None) -> SealedRequest:
        claims = claims or self.claims()
        sealed, _ = seal_request(b"prompt", public_key(claims.public_key), Binding(claims.evidence_digest, claims.release_digest))
        return SealedRequest(
            suite=SUITE, evidence_digest=claims.evidence_digest, encapsulation=sealed.encapsulation, ciphertext=sealed.ciphertext
        )

    def refusal(self, request: SealedRequest) -> Refusal:
        with pytest.raises(Refused) as caught:
            self.identity.open(request)
        return caught.value.refusal


@pytest.fixture
def setting() -> Setting:
    return Setting()


def test_a_request_sealed_to_the_evidence_opens(setting: Setting) -> None:
    message, _ = setting.identity.open(setting.request())
    assert message == b"prompt"


def test_the_same_request_opens_only_once(setting: Setting) -> None:
    request = setting.request()
    setting.identity.open(request)
    assert setting.refusal(request) is Refusal.REPLAYED


def test_the_digest_does_not_depend_on_the_nonce(setting: Setting) -> None:
    assert setting.identity.evidence(NONCE).key_config == setting.identity.evidence(b"n" * 32).key_config
    assert setting.identity.evidence(NONCE).report != setting.identity.evidence(b"n" * 32).report


def test_a_key_is_replaced_at_half_its_life_and_the_old_one_still_opens(setting: Setting) -> None:
    old = setting.claims()
    setting.now_s += 51
    new = setting.claims()
    assert new.evidence_digest != old.evidence_digest
    setting.identity.open(setting.request(old))
    setting.identity.open(setting.request(new))


def test_an_expired_key_opens_nothing(setting: Setting) -> None:
    request = setting.request()
    setting.now_s += 100
    assert setting.refusal(request) is Refusal.STALE_EVIDENCE


def test_another_suite_is_refused(setting: Setting) -> None:
    request = setting.request()
    request.suite = SUITE + 1
    assert setting.refusal(request) is Refusal.SUITE


def test_unknown_evidence_is_refused(setting: Setting) -> None:
    request = setting.request()
    request.evidence_digest = bytes(32)
    assert setting.refusal(request) is Refusal.STALE_EVIDENCE


def test_altered_bytes_are_refused_and_do_not_use_up_the_request(setting: Setting) -> None:
    request = setting.request()
    altered = SealedRequest.FromString(request.SerializeToString())
    altered.ciphertext = altered.ciphertext[:-1]
    assert setting.refusal(altered) is Refusal.NOT_OPENED
    setting.identity.open(request)


@pytest.mark.parametrize("length", [0, 31, 33])
def test_a_nonce_of_another_length_is_refused(setting: Setting, length: int) -> None:
    with pytest.raises(Refused) as caught:
        setting.identity.evidence(bytes(length))
    assert caught.value.refusal is Refusal.BAD_NONCE


def test_a_key_that_can_remember_no_more_requests_is_replaced(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REPLAYS_KEPT", 2)
    first = setting.claims()
    for _ in range(2):
        setting.identity.open(setting.request(first))
    assert setting.refusal(setting.request(first)) is Refusal.STALE_EVIDENCE
    setting.identity.open(setting.request(setting.claims()))
