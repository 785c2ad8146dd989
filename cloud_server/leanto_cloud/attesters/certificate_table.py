"""The certificate table that an SEV-SNP host may hand its guest (GHCB specification, SNP extended guest request). Bytes in, names out."""

from __future__ import annotations

import struct
from uuid import UUID

from leanto_cloud.errors import AttestationError

MAX_ENTRIES = 16
_ENTRY = struct.Struct("<16sII")  # id as written, offset, length
_NAMES = {
    UUID("63da758d-e664-4564-adc5-f4b93be8accd").bytes: "vcek",
    UUID("a8074bc2-a25a-483e-aae6-39c045a0b8a1").bytes: "vlek",
    UUID("4ab7b379-bbac-4fe4-a02f-05aef327c782").bytes: "ask",
    UUID("c0b406a4-a803-4952-9743-3fb6014cd0ae").bytes: "ark",
    UUID("92f81bc3-5811-4d3d-97ff-d19f88dc67ea").bytes: "crl",
}


def parse_table(raw: bytes) -> dict[str, bytes]:
    """The endorsements in `raw`, by the names of docs/wire.md; empty for an empty table. Raises AttestationError."""
    found: dict[str, bytes] = {}
    for number in range(min(MAX_ENTRIES, len(raw) // _ENTRY.size)):
        kind, offset, length = _ENTRY.unpack_from(raw, number * _ENTRY.size)
        if not any(kind):
            break
        if offset + length > len(raw):
            raise AttestationError("the host's certificate table points beyond its end")
        if kind in _NAMES:
            found[_NAMES[kind]] = raw[offset : offset + length]
    return found
