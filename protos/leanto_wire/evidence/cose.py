"""COSE_Sign1 (RFC 9052) with ES384, and CBOR (RFC 8949) whose shape is bounded before it is decoded. Knows nothing of what is signed."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

from leanto_wire.errors import EvidenceError

MAX_DEPTH = 6
MAX_ITEMS = 512
ES384 = -35
_SIGN1_TAG = b"\xd2"  # tag 18, optional before the message
_INDEFINITE = 31


@dataclass(frozen=True, slots=True)
class Sign1:
    """A signed message: its payload, what the signature is over, and the signature (r ‖ s, 96 bytes)."""

    payload: bytes
    signed: bytes
    signature: bytes


def parse_sign1(raw: bytes) -> Sign1:
    """The COSE_Sign1 in `raw`, not verified yet. Raises EvidenceError for anything else, another algorithm included."""
    message = decode(raw.removeprefix(_SIGN1_TAG))
    if not isinstance(message, list) or len(message) != 4:
        raise EvidenceError("report", "it is no COSE_Sign1 message")
    protected, _, payload, signature = message
    if not isinstance(protected, bytes) or not isinstance(payload, bytes) or not isinstance(signature, bytes):
        raise EvidenceError("report", "it is no COSE_Sign1 message")
    if decode(protected) != {1: ES384}:
        raise EvidenceError("signature", "it is signed with another algorithm than ES384")
    import cbor2

    return Sign1(payload, cbor2.dumps(["Signature1", protected, b"", payload]), signature)


def decode(raw: bytes) -> Any:
    """The CBOR value that `raw` is, whole. Raises EvidenceError; no tag, no float, nothing deep or long is decoded."""
    try:
        import cbor2
    except ImportError:
        raise EvidenceError("verifier", "reading it needs cbor2: pip install 'leanto[attest]'") from None
    scan = _Scan(raw)
    scan.item(0)
    if scan.position != len(raw):
        raise EvidenceError("report", "bytes follow its CBOR")
    try:
        return cbor2.CBORDecoder(io.BytesIO(raw), max_depth=MAX_DEPTH, allow_duplicate_keys=False).decode()
    except (cbor2.CBORDecodeError, ValueError, TypeError, RecursionError, OverflowError):
        raise EvidenceError("report", "its CBOR does not parse") from None


class _Scan:
    """Walks over CBOR without building anything: every length must lie within the bytes, every count and depth within its bound."""

    def __init__(self, raw: bytes) -> None:
        self.position = 0
        self._raw = raw
        self._items = 0

    def item(self, depth: int) -> bool:
        """Step over one item. False for the break that ends an indefinite one."""
        self._items += 1
        if depth > MAX_DEPTH or self._items > MAX_ITEMS:
            raise EvidenceError("size", f"its CBOR is nested deeper than {MAX_DEPTH}, or holds more than {MAX_ITEMS} items")
        initial = self._take(1)[0]
        kind, short = initial >> 5, initial & 31
        if initial == 0xFF:
            return False
        if kind == 7:
            if short not in (20, 21, 22):  # false, true, null
                raise EvidenceError("report", "its CBOR holds a float or an unknown simple value")
        elif kind == 6:
            raise EvidenceError("report", "its CBOR holds a tag")
        elif short == _INDEFINITE and kind in (4, 5):
            self._until_break(depth)
        else:
            self._definite(kind, self._length(short), depth)
        return True

    def _definite(self, kind: int, length: int, depth: int) -> None:
        if kind in (2, 3):
            self._take(length)
        elif kind in (4, 5):
            for _ in range(min(length * (kind - 3), MAX_ITEMS + 1)):
                if not self.item(depth + 1):
                    raise EvidenceError("report", "its CBOR does not parse")

    def _until_break(self, depth: int) -> None:
        while self.item(depth + 1):
            pass

    def _length(self, short: int) -> int:
        if short < 24:
            return short
        if short > 27:
            raise EvidenceError("report", "its CBOR does not parse")
        return int.from_bytes(self._take(1 << (short - 24)), "big")

    def _take(self, count: int) -> bytes:
        taken = self._raw[self.position : self.position + count]
        if len(taken) != count:
            raise EvidenceError("report", "its CBOR is cut short")
        self.position += count
        return taken
