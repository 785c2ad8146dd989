"""Sealing: what goes in comes out, and only for the key, the evidence and the release it was sealed to."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leanto_wire.errors import SealError
from leanto_wire.frame import BLOCK_BYTES, Padding
from leanto_wire.keys import PRIVATE_BYTES, PUBLIC_BYTES, PrivateKey, public_key
from leanto_wire.seal import (
    ENCAPSULATION_BYTES,
    MAX_MESSAGE_BYTES,
    SUITES,
    TAG_BYTES,
    Binding,
    Sealed,
    open_request,
    seal_request,
)

KEY = PrivateKey.generate()
BINDING = Binding(b"e" * 32, b"r" * 32)


def seal(message: bytes = b"prompt", binding: Binding = BINDING) -> Sealed:
    return seal_request(message, public_key(KEY.public_bytes), binding)[0]


@settings(max_examples=40)
@given(st.binary(max_size=2000), st.lists(st.binary(max_size=300), max_size=6), st.sampled_from(Padding), st.sampled_from(sorted(SUITES)))
def test_a_request_and_its_answer_come_out_as_they_went_in(prompt: bytes, parts: list[bytes], padding: Padding, suite: int) -> None:
    sealed, opener = seal_request(prompt, public_key(KEY.public_bytes), BINDING, padding=padding, suite=suite)
    message, sealer = open_request(sealed, KEY, BINDING, suite=suite)
    assert message == prompt
    for part in parts:
        assert opener.open(sealer.seal(part, final=False), final=False) == part
    assert opener.open(sealer.seal(b"end", final=True), final=True) == b"end"
    opener.close()


def test_sizes_are_those_of_the_document() -> None:
    sealed = seal(b"x" * 100)
    assert len(KEY.public_bytes) == PUBLIC_BYTES == 1216
    assert len(sealed.encapsulation) == ENCAPSULATION_BYTES == 1168
    assert len(sealed.ciphertext) == BLOCK_BYTES["request"] + TAG_BYTES == 272
    _, sealer = open_request(sealed, KEY, BINDING)
    assert len(sealer.seal(b"a token", final=False)) == BLOCK_BYTES["response"] + TAG_BYTES == 144


def test_two_seals_of_one_message_share_nothing() -> None:
    one, two = seal(), seal()
    assert one.encapsulation != two.encapsulation
    assert one.ciphertext != two.ciphertext


@pytest.mark.parametrize("binding", [Binding(b"x" * 32, b"r" * 32), Binding(b"e" * 32, b"x" * 32)], ids=["evidence", "release"])
def test_a_request_bound_to_other_evidence_or_release_does_not_open(binding: Binding) -> None:
    with pytest.raises(SealError, match="another key or other evidence"):
        open_request(seal(), KEY, binding)


def test_a_request_sealed_to_another_key_does_not_open() -> None:
    with pytest.raises(SealError, match="another key or other evidence"):
        open_request(seal(), PrivateKey.generate(), BINDING)


def test_a_digest_of_the_wrong_size_is_refused() -> None:
    with pytest.raises(SealError, match="32 bytes"):
        seal(binding=Binding(b"short", b"r" * 32))


def test_a_message_over_the_limit_is_refused_before_it_is_sealed() -> None:
    with pytest.raises(SealError, match="over the limit"):
        seal(bytes(MAX_MESSAGE_BYTES + 1))


@pytest.mark.parametrize("x25519", [bytes(32), (1).to_bytes(32, "little")], ids=["zero", "one"])
def test_a_degenerate_public_point_cannot_be_sealed_to(x25519: bytes) -> None:
    with pytest.raises(SealError):
        seal_request(b"prompt", public_key(KEY.public_bytes[:1184] + x25519), BINDING)


def test_a_degenerate_encapsulated_point_does_not_open() -> None:
    sealed = seal()
    forged = sealed.encapsulation[:1088] + bytes(32) + sealed.encapsulation[1120:]
    with pytest.raises(SealError):
        open_request(Sealed(forged, sealed.ciphertext), KEY, BINDING)


@given(st.binary(max_size=40))
def test_bytes_that_are_no_key_are_refused(raw: bytes) -> None:
    with pytest.raises(SealError):
        public_key(raw)
    with pytest.raises(SealError):
        PrivateKey.from_bytes(raw)


def test_a_private_key_can_be_made_of_its_bytes() -> None:
    raw = bytes(range(PRIVATE_BYTES))
    assert PrivateKey.from_bytes(raw).public_bytes == PrivateKey.from_bytes(raw).public_bytes


def test_equal_chunks_of_one_answer_look_different() -> None:
    _, sealer = open_request(seal(), KEY, BINDING)
    ciphertexts = [sealer.seal(b"same", final=False) for _ in range(50)]
    assert len({ciphertext[:16] for ciphertext in ciphertexts}) == 50


def test_the_two_directions_have_keys_of_their_own() -> None:
    sealed = seal(bytes(252))
    _, sealer = open_request(sealed, KEY, BINDING)
    assert sealer.seal(bytes(252), final=True)[:16] != sealed.ciphertext[:16]


@pytest.mark.parametrize(("sealed_with", "opened_with"), [(1, 2), (2, 1)])
def test_a_request_of_one_suite_does_not_open_under_another(sealed_with: int, opened_with: int) -> None:
    sealed, _ = seal_request(b"prompt", public_key(KEY.public_bytes), BINDING, suite=sealed_with)
    with pytest.raises(SealError):
        open_request(sealed, KEY, BINDING, suite=opened_with)


def test_the_suites_share_no_info_label() -> None:
    assert len({BINDING.info(suite) for suite in SUITES}) == len(SUITES)


@pytest.mark.parametrize("padding", Padding)
def test_the_node_learns_the_level_under_the_seal_and_answers_at_it(padding: Padding) -> None:
    sealed, opener = seal_request(b"prompt", public_key(KEY.public_bytes), BINDING, padding=padding)
    _, sealer = open_request(sealed, KEY, BINDING)
    assert sealer.padding is padding
    assert opener.open(sealer.seal(b"part", final=False), final=False) == b"part"
    assert opener.opened == 1


@pytest.mark.parametrize("padding", [Padding.BUCKETS, Padding.CONSTANT])
def test_an_answer_at_another_level_than_was_asked_for_is_refused(padding: Padding) -> None:
    sealed, opener = seal_request(b"prompt", public_key(KEY.public_bytes), BINDING, padding=padding)
    _, sealer = open_request(sealed, KEY, BINDING)
    sealer.padding = Padding.BLOCKS
    with pytest.raises(SealError, match="another level"):
        opener.open(sealer.seal(b"part", final=False), final=False)
