"""Chunked OHTTP by the draft's example, and what a relay may try on its bytes."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest
from Crypto.Protocol import HPKE
from Crypto.Protocol.DH import import_x25519_private_key
from hypothesis import given
from hypothesis import strategies as st

from leanto_wire.errors import ProtocolError, SealError
from leanto_wire.ohttp.bhttp import Request
from leanto_wire.ohttp.chunked import MAX_CHUNK_BYTES, RequestOpener, RequestSealer, chunks_of
from leanto_wire.ohttp.key_config import GatewayKey, KeyConfig

KEY = GatewayKey.of(bytes(range(32)))


@pytest.fixture
def example(data_dir: Path) -> dict[str, bytes]:
    raw = json.loads((data_dir / "private/ohttp/chunked_ohttp_example.json").read_text())
    return {
        name: bytes.fromhex(value) for name, value in raw.items() if name not in ("source", "kem", "kdf", "aead", "request_chunk_lengths")
    }


def test_the_1_example_of_the_draft_is_made_byte_for_byte(example: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    ephemeral = import_x25519_private_key(example["client_ephemeral_secret_key"])
    monkeypatch.setattr(HPKE.ECC, "generate", lambda **_: ephemeral)
    config = KeyConfig.parse(example["key_config"])
    assert config.encode() == example["key_config"]
    message = example["binary_http_request"]
    sealer = RequestSealer(config)
    parts = [(message[:12], False), (message[12:25], False), (message[25:], True)]
    assert b"".join(sealer.seal(part, final=final) for part, final in parts) == example["encapsulated_request"]
    answer = sealer.answer()
    opened = answer.feed(example["response_nonce_and_chunks"])
    assert opened + answer.close() == example["binary_http_response"]


def test_the_1_example_of_the_draft_is_opened_and_answered_byte_for_byte(example: dict[str, bytes]) -> None:
    key = GatewayKey(example["gateway_secret_key"], KeyConfig.parse(example["key_config"]))
    assert GatewayKey.of(key.private).config.public_key == key.config.public_key
    opener = RequestOpener(key)
    message = opener.feed(example["encapsulated_request"]) + opener.close()
    assert message == example["binary_http_request"]
    request = Request.parse(message)
    assert (request.method, request.scheme, request.authority, request.path) == (b"GET", b"https", b"example.com", b"/")
    whole = example["response_nonce_and_chunks"]
    answer = opener.answer(whole[:16])
    body = example["binary_http_response"]
    sealed = answer.seal(body[:1], final=False) + answer.seal(body[1:], final=False) + answer.seal(b"", final=True)
    assert sealed == whole


def exchange(parts: list[bytes], step: int) -> list[bytes]:
    sealer, opener = RequestSealer(KEY.config), RequestOpener(KEY)
    stream = b"".join(sealer.seal(part, final=i + 1 == len(parts)) for i, part in enumerate(parts))
    there = b"".join(opener.feed(stream[at : at + step]) for at in range(0, len(stream), step)) + opener.close()
    writer, reader = opener.answer(), sealer.answer()
    back = b"".join(writer.seal(part, final=i + 1 == len(parts)) for i, part in enumerate(parts))
    return [there, b"".join(reader.feed(back[at : at + step]) for at in range(0, len(back), step)) + reader.close()]


@given(st.lists(st.binary(max_size=200), min_size=1, max_size=5), st.integers(1, 300))
def test_what_goes_in_comes_out_however_the_bytes_are_cut(parts: list[bytes], step: int) -> None:
    assert exchange(parts, step) == [b"".join(parts)] * 2


def test_a_long_message_goes_in_chunks_that_every_receiver_takes() -> None:
    message = bytes(3 * MAX_CHUNK_BYTES + 1)
    assert exchange(chunks_of(message), 5000) == [message] * 2
    assert chunks_of(b"") == [b""]


def test_a_request_for_another_key_is_refused() -> None:
    sealed = RequestSealer(KEY.config).seal(b"x", final=True)
    with pytest.raises(SealError, match="another key"):
        RequestOpener(GatewayKey.of(bytes(range(32)), key_id=2)).feed(sealed)
    other = RequestOpener(GatewayKey.generate())
    other.feed(sealed)
    with pytest.raises(SealError, match="altered"):
        other.close()


@given(st.binary(max_size=300), st.integers(1, 400))
def test_any_bytes_are_refused_or_wait_for_more(raw: bytes, step: int) -> None:
    sealer = RequestSealer(KEY.config)
    for reader in (RequestOpener(KEY), sealer.answer()):
        with contextlib.suppress(SealError):
            for at in range(0, len(raw), step):
                reader.feed(raw[at : at + step])
        with pytest.raises(SealError):
            reader.close()


@given(st.binary(max_size=80))
def test_any_bytes_are_a_key_configuration_or_refused(raw: bytes) -> None:
    with contextlib.suppress(ProtocolError):
        assert KeyConfig.parse(raw).encode() == raw


def test_a_degenerate_key_cannot_be_sealed_to() -> None:
    with pytest.raises(SealError):
        RequestSealer(KeyConfig(1, bytes(32)))
