"""Records the golden wire file of a suite anew: `python tests/golden/wire/record.py SUITE`. Only for a new protocol version or suite."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from leanto_wire.keys import PRIVATE_BYTES, PrivateKey, public_key
from leanto_wire.report_data import evidence_digest, report_data
from leanto_wire.seal import Binding, open_request, seal_request
from leanto_wire.v1.inference_pb2 import TASK_TEXT, GenerateRequest, SamplingParams
from leanto_wire.v1.private_compute_pb2 import EVIDENCE_TYPE_DEVELOPMENT, KeyConfig


def record(suite: int) -> dict[str, object]:
    """One exchange with fixed keys. The encapsulation is random, so it is recorded rather than made again."""
    private = bytes(range(PRIVATE_BYTES))
    key = PrivateKey.from_bytes(private)
    release = bytes(range(32))
    config = KeyConfig(
        protocol=1,
        suite=suite,
        public_key=key.public_bytes,
        expires_unix_ms=1_800_000_000_000,
        release_digest=release,
        model_id="pocket-large@abc",
    ).SerializeToString(deterministic=True)
    nonce = bytes(range(32, 64))
    digest = evidence_digest(EVIDENCE_TYPE_DEVELOPMENT, config)
    message = GenerateRequest(
        request_id="golden", text="wake me at half past six", task=TASK_TEXT, stream=True, sampling_params=SamplingParams(max_tokens=16)
    ).SerializeToString(deterministic=True)
    sealed, _ = seal_request(message, public_key(key.public_bytes), Binding(digest, release), suite=suite)
    _, sealer = open_request(sealed, key, Binding(digest, release), suite=suite)
    answer = [(b"first", False), (b"", False), (bytes(200), False), (b"last", True)]
    return {
        "private_key": private.hex(),
        "public_key": key.public_bytes.hex(),
        "key_config": config.hex(),
        "nonce": nonce.hex(),
        "report_data": report_data(EVIDENCE_TYPE_DEVELOPMENT, config, nonce).hex(),
        "evidence_digest": digest.hex(),
        "release_digest": release.hex(),
        "message": message.hex(),
        "encapsulation": sealed.encapsulation.hex(),
        "ciphertext": sealed.ciphertext.hex(),
        "answer": [{"message": m.hex(), "final": final, "ciphertext": sealer.seal(m, final=final).hex()} for m, final in answer],
    }


if __name__ == "__main__":
    number = int(sys.argv[1])
    Path(__file__).with_name(f"suite{number}.json").write_text(json.dumps(record(number), indent=1) + "\n")
