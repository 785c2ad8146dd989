"""X-Wing key pairs (ML-KEM-768 with X25519) as bytes. Knows nothing of what they seal.

Public: ML-KEM-768 encapsulation key (1184 bytes) ‖ X25519 public key (32 bytes), draft-connolly-cfrg-xwing-kem.
Private, never on the wire: ML-KEM-768 seed (64 bytes) ‖ X25519 private key (32 bytes).
"""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import MLKEM768X25519PrivateKey, MLKEM768X25519PublicKey

from leanto_wire.errors import SealError

PUBLIC_BYTES = 1184 + 32
PRIVATE_BYTES = 64 + 32

PublicKey = MLKEM768X25519PublicKey


class PrivateKey:
    """One X-Wing private key. `public_bytes` is what evidence vouches for."""

    def __init__(self, mlkem: MLKEM768PrivateKey, x25519: X25519PrivateKey) -> None:
        self.hpke = MLKEM768X25519PrivateKey(mlkem, x25519)
        self.public_bytes = mlkem.public_key().public_bytes_raw() + x25519.public_key().public_bytes_raw()

    @classmethod
    def generate(cls) -> PrivateKey:
        """A fresh key."""
        return cls(MLKEM768PrivateKey.generate(), X25519PrivateKey.generate())

    @classmethod
    def from_bytes(cls, raw: bytes) -> PrivateKey:
        """The key of `raw` (96 bytes). Raises SealError if it is none."""
        try:
            return cls(MLKEM768PrivateKey.from_seed_bytes(raw[:64]), X25519PrivateKey.from_private_bytes(raw[64:]))
        except ValueError:
            raise SealError(f"a private key has {PRIVATE_BYTES} bytes") from None


def public_key(raw: bytes) -> PublicKey:
    """The public key of `raw` (1216 bytes). Raises SealError if it is none."""
    try:
        return MLKEM768X25519PublicKey(MLKEM768PublicKey.from_public_bytes(raw[:1184]), X25519PublicKey.from_public_bytes(raw[1184:]))
    except ValueError:
        raise SealError("the node's public key is not an X-Wing key") from None
