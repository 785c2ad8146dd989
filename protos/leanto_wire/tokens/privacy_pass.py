"""Privacy Pass tokens of type 2, publicly verifiable (RFC 9577, RFC 9578 section 6): the structures, and both sides of issuing.

A challenge names issuer and origin, and no redemption context: tokens may be fetched long before they are spent.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA384
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key

from leanto_wire.errors import TokenError
from leanto_wire.tokens.blind_rsa import SALT_BYTES, blind, blind_sign, finalize

TYPE = (2).to_bytes(2, "big")
MODULUS_BYTES = 256
NONCE_BYTES = DIGEST_BYTES = 32
TOKEN_BYTES = 2 + NONCE_BYTES + 2 * DIGEST_BYTES + MODULUS_BYTES
REQUEST_BYTES = 2 + 1 + MODULUS_BYTES

# RSASSA-PSS with SHA-384, MGF1 with SHA-384 and a salt of 48 bytes, as RFC 9578 section 6.5 has a key's algorithm in DER.
_ALGORITHM = bytes.fromhex(
    "303d06092a864886f70d01010a3030a00d300b0609608648016503040202a11a301806092a864886f70d010108300b0609608648016503040202a203020130"
)


@dataclass(frozen=True, slots=True)
class PublicKey:
    """An issuer's RSA key of 2048 bits; `encoded` is its SubjectPublicKeyInfo, whose SHA-256 is the key id."""

    rsa: RSAPublicKey
    encoded: bytes

    @classmethod
    def of(cls, rsa: RSAPublicKey) -> PublicKey:
        """Raises ValueError for another size."""
        if rsa.key_size != 8 * MODULUS_BYTES:
            raise ValueError(f"an issuer's key has {8 * MODULUS_BYTES} bits")
        bits = b"\x00" + rsa.public_bytes(Encoding.DER, PublicFormat.PKCS1)
        return cls(rsa, _der(0x30, _ALGORITHM + _der(0x03, bits)))

    @classmethod
    def parse(cls, encoded: bytes) -> PublicKey:
        """Raises ValueError unless `encoded` is exactly such a key."""
        at = encoded.find(_ALGORITHM)
        if at < 0 or len(encoded) > 1024:
            raise ValueError("an issuer's key is an RSASSA-PSS key with SHA-384")
        # the same key under rsaEncryption, which every library reads
        plain = bytes.fromhex("300d06092a864886f70d0101010500") + encoded[at + len(_ALGORITHM) :]
        key = load_der_public_key(_der(0x30, plain))
        if not isinstance(key, RSAPublicKey):
            raise ValueError("an issuer's key is an RSA key")
        found = cls.of(key)
        if found.encoded != encoded:
            raise ValueError("an issuer's key is not encoded as RFC 9578 has it")
        return found

    @property
    def key_id(self) -> bytes:
        """32 bytes."""
        return hashlib.sha256(self.encoded).digest()


@dataclass(frozen=True, slots=True)
class TokenChallenge:
    """Which issuer's tokens an origin takes (RFC 9577, section 2.1.1)."""

    issuer: str
    origin: str
    redemption_context: bytes = b""

    def encode(self) -> bytes:
        """As it is hashed. Raises ValueError for names that do not fit."""
        issuer, origin = self.issuer.encode(), self.origin.encode()
        if not issuer or max(len(issuer), len(origin)) > 0xFFFF or len(self.redemption_context) not in (0, 32):
            raise ValueError("a challenge names an issuer, and its context has 32 bytes or none")
        context = bytes([len(self.redemption_context)]) + self.redemption_context
        return TYPE + len(issuer).to_bytes(2, "big") + issuer + context + len(origin).to_bytes(2, "big") + origin

    @property
    def digest(self) -> bytes:
        """32 bytes."""
        return hashlib.sha256(self.encode()).digest()


@dataclass(frozen=True, slots=True)
class Token:
    """What is spent, once: `nonce` 32 bytes, `challenge_digest` 32, `key_id` 32, `authenticator` 256."""

    nonce: bytes = field(repr=False)
    challenge_digest: bytes
    key_id: bytes
    authenticator: bytes = field(repr=False)

    @classmethod
    def parse(cls, raw: bytes) -> Token:
        """Raises TokenError for other than a token of type 2."""
        if len(raw) != TOKEN_BYTES or raw[:2] != TYPE:
            raise TokenError(f"a token of type 2 has {TOKEN_BYTES} bytes")
        return cls(raw[2:34], raw[34:66], raw[66:98], raw[98:])

    def encode(self) -> bytes:
        """TOKEN_BYTES bytes."""
        return self.input() + self.authenticator

    def input(self) -> bytes:
        """What the issuer signed, unseen."""
        return TYPE + self.nonce + self.challenge_digest + self.key_id

    def verify(self, key: PublicKey, challenge: TokenChallenge) -> None:
        """Raise TokenError unless it answers `challenge`, signed by `key`."""
        if self.challenge_digest != challenge.digest:
            raise TokenError("the token is for another issuer or origin")
        if self.key_id != key.key_id:
            raise TokenError("the token was signed by another key")
        try:
            key.rsa.verify(self.authenticator, self.input(), padding.PSS(padding.MGF1(SHA384()), SALT_BYTES), SHA384())
        except InvalidSignature:
            raise TokenError("the token's signature does not hold") from None


@dataclass(frozen=True, slots=True)
class PendingToken:
    """What the client keeps while the issuer signs. `request` is what it sends."""

    request: bytes = field(repr=False)
    unsigned: Token
    key: PublicKey
    inverse: int = field(repr=False)
    challenge: TokenChallenge

    def finish(self, response: bytes) -> Token:
        """The token. Raises TokenError unless the issuer signed what it was asked to."""
        if len(response) != MODULUS_BYTES:
            raise TokenError(f"an issuer answers with {MODULUS_BYTES} bytes")
        signature = finalize(response, self.inverse, self.key.rsa)
        token = Token(self.unsigned.nonce, self.unsigned.challenge_digest, self.unsigned.key_id, signature)
        token.verify(self.key, self.challenge)
        return token


def request_token(
    challenge: TokenChallenge, key: PublicKey, *, nonce: bytes | None = None, salt: bytes | None = None, blinding: int | None = None
) -> PendingToken:
    """A fresh token's request; nonce, salt and blinding are drawn unless a test gives them."""
    unsigned = Token(nonce or secrets.token_bytes(NONCE_BYTES), challenge.digest, key.key_id, b"")
    blinded, inverse = blind(unsigned.input(), key.rsa, salt=salt, blinding=blinding)
    return PendingToken(TYPE + key.key_id[-1:] + blinded, unsigned, key, inverse, challenge)


def issue(request: bytes, key: RSAPrivateKey) -> bytes:
    """The issuer's answer (256 bytes). Raises TokenError for a request that is none, or for another key."""
    if len(request) != REQUEST_BYTES or request[:2] != TYPE:
        raise TokenError(f"a request for a token of type 2 has {REQUEST_BYTES} bytes")
    if request[2:3] != PublicKey.of(key.public_key()).key_id[-1:]:
        raise TokenError("the request is for another key")
    return blind_sign(request[3:], key)


def _der(tag: int, content: bytes) -> bytes:
    size = len(content)
    length = (
        bytes([size]) if size < 128 else bytes([0x80 + (size.bit_length() + 7) // 8]) + size.to_bytes((size.bit_length() + 7) // 8, "big")
    )
    return bytes([tag]) + length + content
