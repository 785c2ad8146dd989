"""Tokens by the vectors of RFC 9474 and RFC 9578, and what cannot be told of them."""

from __future__ import annotations

import contextlib
import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from hypothesis import given
from hypothesis import strategies as st

from leanto_wire.errors import TokenError
from leanto_wire.tokens import PublicKey, Token, TokenChallenge, request_token
from leanto_wire.tokens.blind_rsa import blind, blind_sign, encode_pss, finalize
from leanto_wire.tokens.privacy_pass import TOKEN_BYTES, issue

CHALLENGE = TokenChallenge("issuer.example", "node.example")


@cache
def issuer_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


def cases(path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(path.read_text())
    return found


def test_all_4_variants_of_rfc_9474(data_dir: Path) -> None:
    vectors = cases(data_dir / "private/blindrsa/test_vectors_rfc9474.json")
    for case in vectors:
        p, q, n, e, d, inverse = (int(case[name], 16) for name in ("p", "q", "n", "e", "d", "inv"))
        numbers = rsa.RSAPrivateNumbers(p, q, d, d % (p - 1), d % (q - 1), pow(q, -1, p), rsa.RSAPublicNumbers(e, n))
        key = numbers.private_key()
        message, salt = bytes.fromhex(case["input_msg"]), bytes.fromhex(case["salt"])
        blinded, found = blind(message, key.public_key(), salt=salt, blinding=pow(inverse, -1, n))
        assert (blinded.hex(), found) == (case["blinded_msg"], inverse), case["name"]
        signature = blind_sign(blinded, key)
        assert signature.hex() == case["blind_sig"], case["name"]
        assert finalize(signature, inverse, key.public_key()).hex() == case["sig"], case["name"]
        if "encoded_msg" in case:
            assert encode_pss(message, n.bit_length() - 1, salt).hex() == case["encoded_msg"], case["name"]
    assert len(vectors) == 4


def test_all_10_vectors_of_rfc_9578_type_2(data_dir: Path) -> None:
    count = 0
    for source in ("go", "rust"):
        for case in cases(data_dir / f"private/privacypass/pub_verif_rfc9578.{source}.json"):
            raw = {name: bytes.fromhex(value) for name, value in case.items()}
            private = load_pem_private_key(raw["skS"], None)
            assert isinstance(private, rsa.RSAPrivateKey)
            key = PublicKey.parse(raw["pkS"])
            assert PublicKey.of(private.public_key()).encoded == raw["pkS"]
            challenge = read_challenge(raw["token_challenge"])
            pending = request_token(challenge, key, nonce=raw["nonce"], salt=raw["salt"], blinding=int.from_bytes(raw["blind"], "big"))
            assert pending.request == raw["token_request"]
            assert issue(pending.request, private) == raw["token_response"]
            assert pending.finish(raw["token_response"]).encode() == raw["token"]
            Token.parse(raw["token"]).verify(key, challenge)
            count += 1
    assert count == 10


def read_challenge(raw: bytes) -> TokenChallenge:
    at = 4 + int.from_bytes(raw[2:4], "big")
    end = at + 1 + raw[at]
    challenge = TokenChallenge(raw[4:at].decode(), raw[end + 2 :].decode(), raw[at + 1 : end])
    assert challenge.encode() == raw
    return challenge


def test_a_token_can_be_got_and_verified() -> None:
    key = PublicKey.of(issuer_key().public_key())
    pending = request_token(CHALLENGE, key)
    token = pending.finish(issue(pending.request, issuer_key()))
    assert len(token.encode()) == TOKEN_BYTES
    Token.parse(token.encode()).verify(key, CHALLENGE)


def test_what_the_issuer_sees_and_what_is_spent_share_nothing() -> None:
    key = PublicKey.of(issuer_key().public_key())
    pending = request_token(CHALLENGE, key)
    response = issue(pending.request, issuer_key())
    token = pending.finish(response).encode()
    seen, spent = pending.request + response, token[2:34] + token[98:]
    assert all(seen[i : i + 4] not in spent for i in range(3, len(seen) - 3))


def test_the_same_token_asked_for_twice_looks_different_each_time() -> None:
    key = PublicKey.of(issuer_key().public_key())
    first, second = (request_token(CHALLENGE, key, nonce=bytes(32), salt=bytes(48)) for _ in range(2))
    assert first.request[3:] != second.request[3:]


@pytest.mark.parametrize("part", ["nonce", "challenge_digest", "key_id", "authenticator"])
def test_a_token_with_one_bit_flipped_is_refused(part: str) -> None:
    key = PublicKey.of(issuer_key().public_key())
    pending = request_token(CHALLENGE, key)
    token = pending.finish(issue(pending.request, issuer_key()))
    value = getattr(token, part)
    with pytest.raises(TokenError):
        replace(token, **{part: bytes([value[0] ^ 1]) + value[1:]}).verify(key, CHALLENGE)


def test_an_issuer_that_signs_something_else_is_found_out() -> None:
    key = PublicKey.of(issuer_key().public_key())
    pending, other = request_token(CHALLENGE, key), request_token(CHALLENGE, key)
    with pytest.raises(TokenError, match="signature does not hold"):
        pending.finish(issue(other.request, issuer_key()))


@given(st.binary(max_size=400))
def test_any_bytes_are_a_token_or_refused(raw: bytes) -> None:
    key = PublicKey.of(issuer_key().public_key())
    with contextlib.suppress(TokenError):
        Token.parse(raw).verify(key, CHALLENGE)
    with contextlib.suppress(TokenError):
        issue(raw, issuer_key())
    with contextlib.suppress(ValueError):
        PublicKey.parse(raw)


@given(st.integers(0, 293), st.integers(0, 255))
def test_a_key_with_a_byte_changed_is_read_as_it_stands_or_refused(at: int, value: int) -> None:
    encoded = bytearray(PublicKey.of(issuer_key().public_key()).encoded)
    encoded[at % len(encoded)] = value
    with contextlib.suppress(ValueError):
        assert PublicKey.parse(bytes(encoded)).encoded == bytes(encoded)
