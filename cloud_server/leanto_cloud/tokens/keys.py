"""The issuer's private keys in a file of mode 0600, and their rotation. Knows nothing of accounts or HTTP."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from leanto_cloud.errors import ConfigurationError
from leanto_cloud.whole_file import write_whole
from leanto_wire.tokens.directory import MAX_KEYS, IssuerKey, write_directory
from leanto_wire.tokens.privacy_pass import PublicKey


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private key and the time in which its tokens count."""

    private: RSAPrivateKey = field(repr=False)
    known: IssuerKey

    @classmethod
    def generate(cls, not_before: int, not_after: int) -> SigningKey:
        """A fresh one."""
        private = rsa.generate_private_key(65537, 2048)
        return cls(private, IssuerKey(PublicKey.of(private.public_key()), not_before, not_after))


@dataclass(frozen=True, slots=True)
class KeyFile:
    """Everything an issuer signs with, the newest first."""

    issuer: str
    keys: tuple[SigningKey, ...]

    @property
    def directory(self) -> bytes:
        """What everybody may know."""
        return write_directory(self.issuer, (key.known for key in self.keys))

    def rotated(self, now_s: float, lifetime_s: float) -> KeyFile:
        """With a new key from `now_s` on, and without those that have expired. Tokens of the old ones count until they expire."""
        made = SigningKey.generate(int(now_s), int(now_s + lifetime_s))
        kept = [key for key in self.keys if now_s < key.known.not_after]
        if any(key.known.public.key_id[-1] == made.known.public.key_id[-1] for key in kept):
            return self.rotated(now_s, lifetime_s)  # a request names a key by that byte alone
        return KeyFile(self.issuer, (made, *kept)[:MAX_KEYS])


def read_keys(path: Path) -> KeyFile:
    """Raises ConfigurationError for a file that is none, or that others may read."""
    try:
        if path.stat().st_mode & 0o077:
            raise ConfigurationError(f"{path}: others may read the issuer's keys; chmod 600 it")
        document = json.loads(path.read_bytes())
        return KeyFile(str(document["issuer"]), tuple(map(_read_key, document["keys"])))
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read: {error.strerror}; `leanto-cloud issuer rotate` makes one") from None
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        raise ConfigurationError(f"{path}: not a file of issuer keys") from None


def write_keys(path: Path, keys: KeyFile) -> None:
    """Replace the file, mode 0600. Raises ConfigurationError."""
    entries = [
        {
            "private": key.private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode(),
            "not_before": key.known.not_before,
            "not_after": key.known.not_after,
        }
        for key in keys.keys
    ]
    try:
        write_whole(path, json.dumps({"issuer": keys.issuer, "keys": entries}).encode())
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be written: {error.strerror}") from None


def _read_key(entry: dict[str, str | int]) -> SigningKey:
    private = load_pem_private_key(str(entry["private"]).encode(), None)
    if not isinstance(private, RSAPrivateKey):
        raise ValueError("not an RSA key")
    return SigningKey(private, IssuerKey(PublicKey.of(private.public_key()), int(entry["not_before"]), int(entry["not_after"])))
