"""The wire as it was recorded: each suite must open, hash and seal its bytes for as long as it has that number."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from leanto_wire.keys import PrivateKey, public_key
from leanto_wire.report_data import evidence_digest, report_data
from leanto_wire.seal import SUITES, Binding, Sealed, open_request
from leanto_wire.v1.inference_pb2 import GenerateRequest
from leanto_wire.v1.private_compute_pb2 import EVIDENCE_TYPE_DEVELOPMENT, KeyConfig

FOLDER = Path(__file__).resolve().parents[1] / "golden" / "wire"


@pytest.fixture(scope="module", params=SUITES, ids=lambda number: f"suite {number}")
def suite(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture(scope="module")
def golden(suite: int) -> dict[str, Any]:
    def decode(value: Any) -> Any:
        if isinstance(value, str):
            return bytes.fromhex(value)
        if isinstance(value, list):
            return [decode(item) for item in value]
        return {name: decode(item) for name, item in value.items()} if isinstance(value, dict) else value

    return dict(decode(json.loads((FOLDER / f"suite{suite}.json").read_text())))


def test_the_public_key_follows_from_the_private_key(golden: dict[str, Any]) -> None:
    assert PrivateKey.from_bytes(golden["private_key"]).public_bytes == golden["public_key"]
    public_key(golden["public_key"])


def test_the_key_configuration_reads_as_recorded(suite: int, golden: dict[str, Any]) -> None:
    config = KeyConfig.FromString(golden["key_config"])
    assert (config.protocol, config.suite, config.public_key) == (1, suite, golden["public_key"])
    assert (config.expires_unix_ms, config.release_digest, config.model_id) == (
        1_800_000_000_000,
        golden["release_digest"],
        "pocket-large@abc",
    )


def test_the_hashes_are_as_recorded(golden: dict[str, Any]) -> None:
    config = golden["key_config"]
    assert report_data(EVIDENCE_TYPE_DEVELOPMENT, config, golden["nonce"]) == golden["report_data"]
    assert evidence_digest(EVIDENCE_TYPE_DEVELOPMENT, config) == golden["evidence_digest"]


def test_the_sealed_request_opens_and_its_answer_seals_to_the_recorded_bytes(suite: int, golden: dict[str, Any]) -> None:
    sealed = Sealed(golden["encapsulation"], golden["ciphertext"])
    binding = Binding(golden["evidence_digest"], golden["release_digest"])
    message, sealer = open_request(sealed, PrivateKey.from_bytes(golden["private_key"]), binding, suite=suite)
    assert message == golden["message"]
    assert GenerateRequest.FromString(message).text == "wake me at half past six"
    for part in golden["answer"]:
        assert sealer.seal(part["message"], final=part["final"]) == part["ciphertext"]
