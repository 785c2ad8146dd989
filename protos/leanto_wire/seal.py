"""Sealing end to end: one request to the holder of a key, and its answer back in chunks.

HPKE (RFC 9180, one-shot) carries a fresh 32-byte secret, bound to the evidence the client verified. From it come one AEAD
key for each direction. A chunk's index is in its nonce, "final" in its associated data: nothing can be cut, moved, repeated
or added unnoticed. Knows nothing of protobuf, gRPC, or of what the messages say.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from leanto_wire.errors import SealError
from leanto_wire.frame import Direction, Padding, frame_bytes, pad, unpad
from leanto_wire.keys import PrivateKey, PublicKey

PROTOCOL = 1
SUITE = 1  # what is meant where nobody says otherwise. There is no negotiation: another number than the evidence's is refused.
SECRET_BYTES = 32
ENCAPSULATION_BYTES = 1120 + SECRET_BYTES + 16
DIGEST_BYTES = 32
TAG_BYTES = 16
MAX_MESSAGE_BYTES = 1 << 20

_NONCE_BYTES = 12
_MAX_CIPHERTEXT_BYTES = frame_bytes(MAX_MESSAGE_BYTES, "request", Padding.BLOCKS) + TAG_BYTES


@dataclass(frozen=True, slots=True)
class _Suite:
    """X-Wing and HKDF-SHA256 in every suite; the AEAD, for HPKE and for the chunks, is what a number stands for."""

    hpke: hpke.Suite
    aead: type[AESGCM] | type[ChaCha20Poly1305]


def _suite(hpke_aead: hpke.AEAD, aead: type[AESGCM] | type[ChaCha20Poly1305]) -> _Suite:
    return _Suite(hpke.Suite(hpke.KEM.MLKEM768_X25519, hpke.KDF.HKDF_SHA256, hpke_aead), aead)


SUITES = {1: _suite(hpke.AEAD.AES_256_GCM, AESGCM), 2: _suite(hpke.AEAD.CHACHA20_POLY1305, ChaCha20Poly1305)}


@dataclass(frozen=True, slots=True)
class Binding:
    """What a secret is bound to: evidence and release digests, 32 bytes each, which both ends derive, and the token of the request."""

    evidence_digest: bytes
    release_digest: bytes
    token: bytes = field(default=b"", repr=False)  # empty where the node asks for none

    def info(self, suite: int = SUITE) -> bytes:
        """HPKE info: label ‖ protocol (2) ‖ suite (2) ‖ evidence digest (32) ‖ release digest (32) ‖ SHA-256 of the token (32)."""
        if len(self.evidence_digest) != DIGEST_BYTES or len(self.release_digest) != DIGEST_BYTES:
            raise SealError(f"evidence and release digests have {DIGEST_BYTES} bytes each")
        spoken = b"leanto.v1 secret" + PROTOCOL.to_bytes(2, "big") + suite.to_bytes(2, "big")
        return spoken + self.evidence_digest + self.release_digest + hashlib.sha256(self.token).digest()


@dataclass(frozen=True, slots=True)
class Sealed:
    """A sealed request: HPKE ciphertext of the secret (1168 bytes) and the AEAD ciphertext of one frame."""

    encapsulation: bytes
    ciphertext: bytes


class _Stream:
    """Key, nonce and place of one direction: counts chunks, and ends at the final one."""

    def __init__(self, secret: bytes, encapsulation: bytes, direction: Direction, suite: int) -> None:
        info = b"leanto.v1 " + direction.encode() + suite.to_bytes(2, "big")
        derived = HKDF(SHA256(), 32 + _NONCE_BYTES, salt=hashlib.sha256(encapsulation).digest(), info=info).derive(secret)
        self._aead = SUITES[suite].aead(derived[:32])
        self._base_nonce = int.from_bytes(derived[32:], "big")
        self._direction: Direction = direction
        self._label = direction.encode()
        self._index = 0
        self.finished = False

    def _advance(self, final: bool) -> tuple[bytes, bytes]:
        """(nonce, associated data) of the next chunk."""
        if self.finished:
            raise SealError(f"a {self._direction} chunk follows the final one")
        nonce = (self._base_nonce ^ self._index).to_bytes(_NONCE_BYTES, "big")
        aad = self._label + (self._index << 8 | final).to_bytes(9, "big")
        self._index += 1
        self.finished = final
        return nonce, aad


class Sealer(_Stream):
    """Seals the chunks of one direction, in order, padded to one level."""

    def __init__(self, secret: bytes, encapsulation: bytes, direction: Direction, suite: int, padding: Padding) -> None:
        super().__init__(secret, encapsulation, direction, suite)
        self.padding = padding

    def seal(self, message: bytes, *, final: bool) -> bytes:
        """Ciphertext of the next chunk. Raises SealError after the final one or beyond MAX_MESSAGE_BYTES."""
        if len(message) > MAX_MESSAGE_BYTES:
            raise SealError(f"a message of {len(message)} bytes is over the limit of {MAX_MESSAGE_BYTES}")
        frame = pad(message, self._direction, self.padding)
        nonce, aad = self._advance(final)
        return self._aead.encrypt(nonce, frame, aad)


class Opener(_Stream):
    """Opens the chunks of one direction, in order, all of the level `padding`; None accepts any, and `padding` then says which it was."""

    def __init__(self, secret: bytes, encapsulation: bytes, direction: Direction, suite: int, padding: Padding | None = None) -> None:
        super().__init__(secret, encapsulation, direction, suite)
        self._expected = padding
        self.padding = padding or Padding.BLOCKS

    @property
    def opened(self) -> int:
        """How many chunks were opened."""
        return self._index

    def open(self, ciphertext: bytes, *, final: bool) -> bytes:
        """Message of the next chunk. Raises SealError if it is not exactly what was sealed at this place."""
        nonce, aad = self._advance(final)
        if len(ciphertext) > _MAX_CIPHERTEXT_BYTES:
            raise SealError(f"a sealed chunk is over the limit of {MAX_MESSAGE_BYTES} bytes")
        try:
            frame = self._aead.decrypt(nonce, ciphertext, aad)
        except InvalidTag:
            raise SealError(f"{self._direction} chunk {self._index - 1} was altered, moved or sealed for another request") from None
        message, self.padding = unpad(frame, self._direction)
        if self._expected is not None and self._expected is not self.padding:
            raise SealError(f"a {self._direction} chunk is padded to another level than was asked for")
        return message

    def close(self) -> None:
        """Say that the stream ended here. Raises SealError unless the final chunk was opened."""
        if not self.finished:
            raise SealError(f"the {self._direction} was cut off after {self._index} chunks, before its final one")


def seal_request(
    message: bytes, key: PublicKey, binding: Binding, *, padding: Padding = Padding.BLOCKS, suite: int = SUITE
) -> tuple[Sealed, Opener]:
    """`message` sealed to `key`, and what opens the answer, padded to the same level.

    A retry seals again: no secret is used twice.
    """
    secret = secrets.token_bytes(SECRET_BYTES)
    try:
        encapsulation = SUITES[suite].hpke.encrypt(secret, key, info=binding.info(suite))
    except ValueError:  # a degenerate X25519 point
        raise SealError("the node's public key cannot be sealed to") from None
    ciphertext = Sealer(secret, encapsulation, "request", suite, padding).seal(message, final=True)
    return Sealed(encapsulation, ciphertext), Opener(secret, encapsulation, "response", suite, padding)


def open_request(sealed: Sealed, key: PrivateKey, binding: Binding, *, suite: int = SUITE) -> tuple[bytes, Sealer]:
    """The message of `sealed`, and what seals the answer at the request's padding.

    Raises SealError for another key, suite or binding, or altered bytes.
    """
    if len(sealed.encapsulation) != ENCAPSULATION_BYTES:
        raise SealError(f"an encapsulation has {ENCAPSULATION_BYTES} bytes")
    try:
        secret = SUITES[suite].hpke.decrypt(sealed.encapsulation, key.hpke, info=binding.info(suite))
    except (InvalidTag, ValueError):  # ValueError: a degenerate X25519 point
        raise SealError("the request was sealed to another key or other evidence") from None
    if len(secret) != SECRET_BYTES:
        raise SealError(f"a sealed secret has {SECRET_BYTES} bytes")
    opener = Opener(secret, sealed.encapsulation, "request", suite)
    message = opener.open(sealed.ciphertext, final=True)
    return message, Sealer(secret, sealed.encapsulation, "response", suite, opener.padding)
