"""The two hashes that tie everything together: what a report signs, and what a request is bound to.

Every field goes in with its length before it, under a label of its own. Knows nothing of signatures or policies.
"""

from __future__ import annotations

import hashlib

NONCE_BYTES = 32
REPORT_DATA_BYTES = 64


def _fields(label: bytes, *fields: bytes) -> bytes:
    return b"".join(len(field).to_bytes(8, "big") + field for field in (label, *fields))


def report_data(evidence_type: int, key_config: bytes, nonce: bytes) -> bytes:
    """SHA-512 (64 bytes) of type, key configuration and nonce: the size of the field that hardware reports sign."""
    return hashlib.sha512(_fields(b"leanto.v1 report data", evidence_type.to_bytes(4, "big"), key_config, nonce)).digest()


def evidence_digest(evidence_type: int, key_config: bytes) -> bytes:
    """SHA-256 (32 bytes) of type and key configuration: the same for every nonce, so that a node needs no memory of them."""
    return hashlib.sha256(_fields(b"leanto.v1 evidence", evidence_type.to_bytes(4, "big"), key_config)).digest()


def accelerator_nonce(report_data: bytes) -> bytes:
    """SHA-256 (32 bytes) of the report data: the size of the nonce that GPU evidence repeats."""
    return hashlib.sha256(_fields(b"leanto.v1 accelerator nonce", report_data)).digest()
