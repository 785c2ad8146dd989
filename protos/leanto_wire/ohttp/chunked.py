"""Chunked OHTTP (draft-ietf-ohai-chunked-ohttp): a request sealed to a gateway, and the answer back, both in chunks.

A chunk is its length and its ciphertext; the last has the length 0, takes the rest of the stream, and is sealed as "final". Its index is
in the nonce: nothing can be cut, moved, repeated or added unnoticed. Knows nothing of what the chunks say.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable

from Crypto.Protocol import HPKE
from Crypto.Protocol.DH import import_x25519_private_key, import_x25519_public_key
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from leanto_wire.errors import SealError
from leanto_wire.ohttp.key_config import GatewayKey, KeyConfig
from leanto_wire.ohttp.varint import Cursor, NeedMore, encode_varint

MAX_CHUNK_BYTES = 1 << 14
HEADER_BYTES, ENCAPSULATED_BYTES, TAG_BYTES, NONCE_BYTES = 7, 32, 16, 12
SECRET_BYTES = 16  # the longer of the key and the nonce of AES-128-GCM
FINAL = b"final"
_INFO = b"message/bhttp chunked request\x00"
_EXPORT = b"message/bhttp chunked response"

Crypt = Callable[[bytes, bytes], bytes]  # text, associated data


def chunks_of(message: bytes) -> list[bytes]:
    """`message` in parts that a chunk holds; at least one."""
    return [message[at : at + MAX_CHUNK_BYTES] for at in range(0, max(len(message), 1), MAX_CHUNK_BYTES)]


class ChunkWriter:
    """Frames sealed chunks."""

    def __init__(self, prefix: bytes, seal: Crypt) -> None:
        self._prefix = prefix
        self._seal = seal
        self._ended = False

    def seal(self, part: bytes, *, final: bool) -> bytes:
        """The bytes that carry the next chunk, behind the prefix of the stream if it is the first. Raises SealError after the final one."""
        if self._ended or len(part) > MAX_CHUNK_BYTES:
            raise SealError("a chunk is too long, or follows the final one")
        self._ended = final
        sealed = self._seal(part, FINAL if final else b"")
        prefix, self._prefix = self._prefix, b""
        return prefix + encode_varint(0 if final else len(sealed)) + sealed


class ChunkReader:
    """Opens chunks as their bytes come. `in_final` says that the final one has begun."""

    def __init__(self, prefix_bytes: int, start: Callable[[bytes], Crypt]) -> None:
        self._prefix_bytes = prefix_bytes
        self._start = start
        self._open: Crypt | None = None
        self._buffer = bytearray()
        self.in_final = False

    def feed(self, data: bytes) -> bytes:
        """What can be opened now. Raises SealError for what was altered or moved, and for chunks beyond the limit."""
        self._buffer += data
        parts = []
        while not self.in_final and (part := self._next()) is not None:
            parts.append(part)
        if self.in_final and len(self._buffer) > MAX_CHUNK_BYTES + TAG_BYTES:
            raise SealError("a final chunk is over the limit")
        return b"".join(parts)

    def close(self) -> bytes:
        """The final chunk: the stream has ended here. Raises SealError if it was cut off."""
        if not self.in_final or self._open is None:
            raise SealError("the stream was cut off before its final chunk")
        opened = self._open(bytes(self._buffer), FINAL)
        self._buffer.clear()
        return opened

    def _next(self) -> bytes | None:
        cursor = Cursor(self._buffer)
        try:
            if self._open is None:
                self._open = self._start(cursor.take(self._prefix_bytes))
                opened = b""
            elif (size := cursor.varint()) == 0:
                self.in_final, opened = True, b""
            elif not TAG_BYTES <= size <= MAX_CHUNK_BYTES + TAG_BYTES:
                raise SealError("a chunk is over the limit, or too short to be one")
            else:
                opened = self._open(cursor.take(size), b"")
        except NeedMore:
            return None
        del self._buffer[: cursor.at]
        return opened


class RequestSealer(ChunkWriter):
    """The client's side: seals one request to a gateway. Raises SealError for a key that cannot be sealed to."""

    def __init__(self, config: KeyConfig) -> None:
        try:
            key = import_x25519_public_key(config.public_key)
            context = HPKE.new(receiver_key=key, aead_id=HPKE.AEAD.AES128_GCM, info=_INFO + config.header)
        except ValueError:
            raise SealError("the gateway's public key cannot be sealed to") from None
        super().__init__(config.header + context.enc, context.seal)
        self._context = context

    def answer(self) -> ChunkReader:
        """What opens the answer."""
        return ChunkReader(SECRET_BYTES, lambda nonce: _AnswerAead(self._context, nonce).open)


class RequestOpener(ChunkReader):
    """The gateway's side: opens one request."""

    def __init__(self, key: GatewayKey) -> None:
        self._key = key
        self._context: HPKE.HPKE_Cipher | None = None
        super().__init__(HEADER_BYTES + ENCAPSULATED_BYTES, self._begin)

    def answer(self, response_nonce: bytes | None = None) -> ChunkWriter:
        """What seals the answer; a test gives the nonce (16 bytes). Raises SealError before the request has begun."""
        if self._context is None:
            raise SealError("there is no request to answer")
        nonce = response_nonce or secrets.token_bytes(SECRET_BYTES)
        return ChunkWriter(nonce, _AnswerAead(self._context, nonce).seal)

    def _begin(self, prefix: bytes) -> Crypt:
        header, enc = prefix[:HEADER_BYTES], prefix[HEADER_BYTES:]
        if header != self._key.config.header:
            raise SealError("the request is for another key or suite of the gateway")
        private = import_x25519_private_key(self._key.private)
        try:
            context = HPKE.new(receiver_key=private, aead_id=HPKE.AEAD.AES128_GCM, enc=enc, info=_INFO + header)
        except ValueError:
            raise SealError("the encapsulated key is none") from None
        self._context = context
        return _opening(context.unseal)


class _AnswerAead:
    """AES-128-GCM for the chunks of an answer (section 6.2 of the draft): index in the nonce."""

    def __init__(self, context: HPKE.HPKE_Cipher, response_nonce: bytes) -> None:
        secret = context.export(_EXPORT, SECRET_BYTES)
        salt = context.enc + response_nonce
        self.key, base = (HKDF(SHA256(), size, salt, info).derive(secret) for size, info in ((16, b"key"), (NONCE_BYTES, b"nonce")))
        self.base_nonce = base
        self._aead = AESGCM(self.key)
        self._index = 0

    def seal(self, part: bytes, aad: bytes) -> bytes:
        """The next chunk's ciphertext."""
        return self._aead.encrypt(self._nonce(), part, aad)

    def open(self, sealed: bytes, aad: bytes) -> bytes:
        """The next chunk. Raises SealError."""
        try:
            return self._aead.decrypt(self._nonce(), sealed, aad)
        except InvalidTag:
            raise SealError("a chunk was altered, moved or sealed for another request") from None

    def _nonce(self) -> bytes:
        nonce = int.from_bytes(self.base_nonce, "big") ^ self._index
        self._index += 1
        return nonce.to_bytes(NONCE_BYTES, "big")


def _opening(unseal: Callable[..., bytes]) -> Crypt:
    def open_chunk(sealed: bytes, aad: bytes) -> bytes:
        try:
            return unseal(sealed, aad)
        except ValueError:
            raise SealError("a chunk was altered, moved or sealed for another request") from None

    return open_chunk
