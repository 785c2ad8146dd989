"""A gateway's key: its configuration as clients have it (RFC 9458, section 3), and its private half.

One suite is spoken: X25519, HKDF-SHA256, AES-128-GCM. A configuration may name others beside it. Knows nothing of requests.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from leanto_wire.errors import ProtocolError

KEM, KDF, AEAD = 0x0020, 0x0001, 0x0001
PUBLIC_BYTES = 32
MAX_BYTES = 256


@dataclass(frozen=True, slots=True)
class KeyConfig:
    """What a client must know of a gateway: `key_id` (0–255), `public_key` (X25519, 32 bytes), and (KDF, AEAD) pairs."""

    key_id: int
    public_key: bytes
    suites: tuple[tuple[int, int], ...] = ((KDF, AEAD),)

    @classmethod
    def parse(cls, raw: bytes) -> KeyConfig:
        """Raises ProtocolError for bytes that are none, and for a gateway that does not speak our suite."""
        size = 3 + PUBLIC_BYTES + 2
        listed = int.from_bytes(raw[size - 2 : size], "big")
        if not size <= len(raw) <= MAX_BYTES or len(raw) != size + listed or listed % 4 or not listed:
            raise ProtocolError("not an OHTTP key configuration")
        numbers = [int.from_bytes(raw[at : at + 2], "big") for at in range(size, len(raw), 2)]
        found = cls(raw[0], raw[3 : 3 + PUBLIC_BYTES], tuple(zip(numbers[::2], numbers[1::2], strict=True)))
        if int.from_bytes(raw[1:3], "big") != KEM or (KDF, AEAD) not in found.suites:
            raise ProtocolError("the gateway does not speak X25519, HKDF-SHA256 and AES-128-GCM")
        return found

    def encode(self) -> bytes:
        """As a gateway publishes it and a policy names it."""
        listed = b"".join(part.to_bytes(2, "big") for suite in self.suites for part in suite)
        return bytes([self.key_id]) + KEM.to_bytes(2, "big") + self.public_key + len(listed).to_bytes(2, "big") + listed

    @property
    def header(self) -> bytes:
        """What an encapsulated request begins with: key id, KEM, KDF, AEAD (7 bytes)."""
        return bytes([self.key_id]) + b"".join(part.to_bytes(2, "big") for part in (KEM, KDF, AEAD))


@dataclass(frozen=True, slots=True)
class GatewayKey:
    """A gateway's private key (X25519, 32 bytes) and its configuration."""

    private: bytes = field(repr=False)
    config: KeyConfig

    @classmethod
    def of(cls, private: bytes, key_id: int = 1) -> GatewayKey:
        """Raises ValueError for other than 32 bytes."""
        public = X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()
        return cls(private, KeyConfig(key_id, public))

    @classmethod
    def generate(cls) -> GatewayKey:
        """A fresh one."""
        return cls.of(X25519PrivateKey.generate().private_bytes_raw())
