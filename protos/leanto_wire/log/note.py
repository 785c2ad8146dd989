"""Signed notes (C2SP signed-note): a text, a blank line, and lines of signatures; keys as `name+id+base64`.

Two kinds of Ed25519 signature: a log's own over the text, and a witness's over the text with a time (C2SP tlog-cosignature).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from leanto_wire.errors import LogError

ED25519, COSIGNATURE = 1, 4
MAX_NOTE_BYTES = 16 << 10
MAX_SIGNATURES = 64
_DASH = "— "


@dataclass(frozen=True, slots=True)
class Verifier:
    """A key that signs notes: `kind` is ED25519 (a log) or COSIGNATURE (a witness); `public` has 32 bytes."""

    name: str
    kind: int
    public: bytes

    def __post_init__(self) -> None:
        """Raise ValueError for a name or key that cannot be."""
        if not self.name or any(char.isspace() or char == "+" or not char.isprintable() for char in self.name):
            raise ValueError(f"{self.name!r:.60} cannot name a key: no spaces, no plus")
        if self.kind not in (ED25519, COSIGNATURE) or len(self.public) != 32:
            raise ValueError("a key of a log or a witness is an Ed25519 key")

    @classmethod
    def parse(cls, text: str) -> Verifier:
        """The key written `name+id+base64`. Raises ValueError."""
        parts = text.split("+", 2)
        if len(parts) != 3:
            raise ValueError(f"{text!r:.80} is not a key: write name+id+base64")
        try:
            raw = base64.b64decode(parts[2], validate=True)
        except (binascii.Error, ValueError):
            raise ValueError(f"{text!r:.80} is not a key: its last part is not base64") from None
        found = cls(parts[0], raw[0] if raw else 0, raw[1:])
        if found.key_id.hex() != parts[1]:
            raise ValueError(f"{text!r:.80} is not a key: the id does not fit the rest")
        return found

    @property
    def key_id(self) -> bytes:
        """4 bytes."""
        return hashlib.sha256(self.name.encode() + b"\n" + bytes([self.kind]) + self.public).digest()[:4]

    def __str__(self) -> str:
        return f"{self.name}+{self.key_id.hex()}+{base64.b64encode(bytes([self.kind]) + self.public).decode()}"


@dataclass(frozen=True, slots=True)
class Note:
    """`signatures`: (name, key id, signature) in their order."""

    text: str
    signatures: tuple[tuple[str, bytes, bytes], ...]

    def signed_at(self, key: Verifier) -> int | None:
        """Seconds since the epoch of a witness's valid signature, 0 of a log's; None if `key` has not signed."""
        public = Ed25519PublicKey.from_public_bytes(key.public)
        for name, key_id, signature in self.signatures:
            if (name, key_id) != (key.name, key.key_id):
                continue
            at = int.from_bytes(signature[:8], "big") if key.kind == COSIGNATURE else 0
            raw = signature[8:] if key.kind == COSIGNATURE else signature
            try:
                public.verify(raw, _message(self.text, key.kind, at))
            except InvalidSignature:
                continue
            return at
        return None

    def __str__(self) -> str:
        return self.text + "\n" + "".join(map(_line, self.signatures))


def parse_note(raw: bytes) -> Note:
    """Raises LogError unless `raw` is exactly one note."""
    if len(raw) > MAX_NOTE_BYTES:
        raise LogError(f"a note of {len(raw)} bytes is over the limit of {MAX_NOTE_BYTES}")
    try:
        whole = raw.decode("utf-8")
    except UnicodeDecodeError:
        raise LogError("a note is not UTF-8") from None
    if any(ord(char) < 32 and char != "\n" for char in whole):
        raise LogError("a note has control characters")
    text, blank, tail = whole.rpartition("\n\n")
    if not blank or not tail.endswith("\n"):
        raise LogError("a note is a text, a blank line and signatures")
    return Note(text + "\n", parse_signatures(tail))


def parse_signatures(tail: str) -> tuple[tuple[str, bytes, bytes], ...]:
    """The lines `— name base64(key id ‖ signature)`. Raises LogError."""
    lines = tail.split("\n")[:-1]
    if not lines or len(lines) > MAX_SIGNATURES:
        raise LogError(f"a note has 1 to {MAX_SIGNATURES} signatures")
    found = []
    for line in lines:
        name, space, value = line.removeprefix(_DASH).partition(" ")
        try:
            raw = base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError):
            raw = b""
        if not line.startswith(_DASH) or not name or not space or len(raw) < 5:
            raise LogError("a note has a line that is no signature")
        found.append((name, raw[:4], raw[4:]))
    return tuple(found)


def sign(text: str, key: Ed25519PrivateKey, name: str, *, kind: int = ED25519, at: int = 0) -> tuple[str, bytes, bytes]:
    """A signature on the note `text`; `at` (seconds since the epoch) goes into a witness's."""
    by = Verifier(name, kind, key.public_key().public_bytes_raw())
    raw = key.sign(_message(text, kind, at))
    return name, by.key_id, at.to_bytes(8, "big") + raw if kind == COSIGNATURE else raw


def _message(text: str, kind: int, at: int) -> bytes:
    return (f"cosignature/v1\ntime {at}\n{text}" if kind == COSIGNATURE else text).encode()


def _line(signature: tuple[str, bytes, bytes]) -> str:
    name, key_id, raw = signature
    return f"{_DASH}{name} {base64.b64encode(key_id + raw).decode()}\n"
