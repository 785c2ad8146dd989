"""The HPKE under the seal against the published vectors: RFC 9180 with X25519, and X-Wing of the post-quantum draft.

One-shot encryption is a context's first message, so the first encryption of each vector is opened. Nothing of the data is committed.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.bindings._rust import openssl as rust_openssl
from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHAKE256, Hash

from data_folder import DATA
from leanto_wire.keys import PrivateKey

VECTORS = DATA / "private" / "hpke"
pytestmark = pytest.mark.skipif(not VECTORS.is_dir(), reason="the HPKE vectors are absent from the data folder")

X25519, X_WING, BASE = 0x20, 0x647A, 0
KDFS = {1: hpke.KDF.HKDF_SHA256, 3: hpke.KDF.HKDF_SHA512, 17: hpke.KDF.SHAKE256}
AEADS = {1: hpke.AEAD.AES_128_GCM, 2: hpke.AEAD.AES_256_GCM, 3: hpke.AEAD.CHACHA20_POLY1305}


def vectors(file: str, kem: int) -> list[dict[str, Any]]:
    """Those of base mode that encrypt anything."""
    found = json.loads((VECTORS / file).read_text())
    return [one for one in found if (one["kem_id"], one["mode"]) == (kem, BASE) and one["aead_id"] in AEADS]


def opened(vector: dict[str, Any], key: Any) -> int:
    """How many messages open to what they say: the first alone can, and with the library's own hook, since each has an AAD."""
    kem = hpke.KEM.X25519 if vector["kem_id"] == X25519 else hpke.KEM.MLKEM768_X25519
    suite = hpke.Suite(kem, KDFS[vector["kdf_id"]], AEADS[vector["aead_id"]])
    first = {name: bytes.fromhex(value) for name, value in vector["encryptions"][0].items()}
    info, sealed = bytes.fromhex(vector["info"]), bytes.fromhex(vector["enc"]) + first["ct"]
    return int(rust_openssl.hpke._decrypt_with_aad(suite, sealed, key, info=info, aad=first["aad"]) == first["pt"])


def x_wing_key(vector: dict[str, Any]) -> PrivateKey:
    """The key pair of its 32-byte seed (draft-connolly-cfrg-xwing-kem: SHAKE-256 gives 64 bytes for ML-KEM, 32 for X25519)."""
    expand = Hash(SHAKE256(96))
    expand.update(bytes.fromhex(vector["skRm"]))
    return PrivateKey.from_bytes(expand.finalize())


def test_6_of_6_x25519_base_mode_vectors_of_rfc_9180_open() -> None:
    found = vectors("test-vectors.json", X25519)
    assert len(found) == 6
    assert sum(opened(one, X25519PrivateKey.from_private_bytes(bytes.fromhex(one["skRm"]))) for one in found) == 6


def test_2_of_2_x_wing_vectors_of_the_post_quantum_draft_open() -> None:
    found = vectors("hpke-pq-test-vectors.json", X_WING)
    assert len(found) == 2
    assert sum(opened(one, x_wing_key(one).hpke) for one in found) == 2


def test_2_of_2_x_wing_public_keys_follow_from_their_seeds_as_leanto_writes_them() -> None:
    for one in vectors("hpke-pq-test-vectors.json", X_WING):
        assert x_wing_key(one).public_bytes.hex() == one["pkRm"]


def test_a_vector_with_a_flipped_bit_does_not_open() -> None:
    one = vectors("hpke-pq-test-vectors.json", X_WING)[0]
    flipped = bytearray.fromhex(one["enc"])
    flipped[0] ^= 1
    with pytest.raises(InvalidTag):
        opened(one | {"enc": flipped.hex()}, x_wing_key(one).hpke)
