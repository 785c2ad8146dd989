"""Blind RSA signatures, RFC 9474: the client's blinding and the signer's private operation, with SHA-384 and MGF1-SHA-384.

Python's integers are not constant-time. The private operation is blinded with a fresh base, and its result checked before it leaves:
what its time tells is of a number that the caller cannot know. Verification is plain RSASSA-PSS, and not here.
"""

from __future__ import annotations

import hashlib
import math
import secrets

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey

from leanto_wire.errors import TokenError

SALT_BYTES = 48
_HASH_BYTES = 48


def encode_pss(message: bytes, bits: int, salt: bytes) -> bytes:
    """EMSA-PSS-ENCODE (RFC 8017, section 9.1.1) of `message` for a modulus of `bits` + 1 bits."""
    size = (bits + 7) // 8
    digest = hashlib.sha384(bytes(8) + hashlib.sha384(message).digest() + salt).digest()
    block = bytes(size - len(salt) - _HASH_BYTES - 2) + b"\x01" + salt
    masked = int.from_bytes(block, "big") ^ int.from_bytes(_mgf1(digest, len(block)), "big")
    masked &= (1 << (bits - 8 * (size - len(block)))) - 1
    return masked.to_bytes(len(block), "big") + digest + b"\xbc"


def blind(message: bytes, key: RSAPublicKey, *, salt: bytes | None = None, blinding: int | None = None) -> tuple[bytes, int]:
    """(blinded message, inverse of the blinding), section 4.2. `salt` and `blinding` are drawn unless a test gives them."""
    numbers = key.public_numbers()
    n = numbers.n
    encoded = encode_pss(message, n.bit_length() - 1, secrets.token_bytes(SALT_BYTES) if salt is None else salt)
    m = int.from_bytes(encoded, "big")
    if math.gcd(m, n) != 1:
        raise TokenError("the message shares a factor with the modulus")
    r = blinding if blinding is not None else _coprime(n)
    return (m * pow(r, numbers.e, n) % n).to_bytes(size_of(key), "big"), pow(r, -1, n)


def blind_sign(blinded: bytes, key: RSAPrivateKey) -> bytes:
    """The signer's half, section 4.3. Raises TokenError for a message out of range."""
    private = key.private_numbers()
    n, e = private.public_numbers.n, private.public_numbers.e
    m = int.from_bytes(blinded, "big")
    if len(blinded) != (n.bit_length() + 7) // 8 or m >= n:
        raise TokenError("a blinded message is a number below the modulus, with all its bytes")
    r = _coprime(n)
    hidden = m * pow(r, e, n) % n
    low = pow(hidden, private.dmp1, private.p)
    high = pow(hidden, private.dmq1, private.q)
    signed = high + private.q * (private.iqmp * (low - high) % private.p)
    signature = signed * pow(r, -1, n) % n
    if pow(signature, e, n) != m:
        raise TokenError("the private operation failed")  # a fault in it would give the key away
    return signature.to_bytes(len(blinded), "big")


def finalize(blind_signature: bytes, inverse: int, key: RSAPublicKey) -> bytes:
    """The signature under the blinding, section 4.4; whoever calls verifies it. Raises TokenError for a wrong size."""
    n = key.public_numbers().n
    if len(blind_signature) != size_of(key):
        raise TokenError(f"a blind signature has {size_of(key)} bytes")
    return (int.from_bytes(blind_signature, "big") * inverse % n).to_bytes(size_of(key), "big")


def size_of(key: RSAPublicKey) -> int:
    """Bytes of the modulus."""
    return (key.key_size + 7) // 8


def _coprime(n: int) -> int:
    while math.gcd(r := secrets.randbelow(n), n) != 1:
        pass
    return r


def _mgf1(seed: bytes, size: int) -> bytes:
    blocks = (hashlib.sha384(seed + counter.to_bytes(4, "big")).digest() for counter in range(-(-size // _HASH_BYTES)))
    return b"".join(blocks)[:size]
