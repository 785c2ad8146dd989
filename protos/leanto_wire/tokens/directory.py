"""An issuer's directory (RFC 9578, section 4): its name and its keys, each with the time in which its tokens count.

"not-before" is the RFC's; "not-after" and "issuer-name" are ours, and others pass over them. Knows nothing of HTTP or clocks.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from leanto_wire.tokens.privacy_pass import PublicKey

PATH = "/.well-known/private-token-issuer-directory"
REQUEST_PATH = "/token-request"
DIRECTORY_TYPE = "application/private-token-issuer-directory"
REQUEST_TYPE = "application/private-token-request"
RESPONSE_TYPE = "application/private-token-response"
MAX_BYTES = 64 << 10
MAX_KEYS = 16
_FOREVER = 1 << 53


@dataclass(frozen=True, slots=True)
class IssuerKey:
    """A public key, good from `not_before` until before `not_after` (seconds since the epoch)."""

    public: PublicKey
    not_before: int = 0
    not_after: int = _FOREVER

    def valid(self, now_s: float) -> bool:
        """Whether its tokens count at `now_s`."""
        return self.not_before <= now_s < self.not_after


@dataclass(frozen=True, slots=True)
class Directory:
    """Who issues, and with which keys, the newest first."""

    issuer: str
    keys: tuple[IssuerKey, ...]

    def newest(self, now_s: float) -> IssuerKey | None:
        """The key to ask for."""
        return next((key for key in self.keys if key.valid(now_s)), None)


def write_directory(issuer: str, keys: Iterable[IssuerKey]) -> bytes:
    """As an issuer serves it."""
    listed = [
        {
            "token-type": 2,
            "token-key": base64.urlsafe_b64encode(key.public.encoded).decode(),
            "not-before": key.not_before,
            "not-after": key.not_after,
        }
        for key in keys
    ]
    return json.dumps({"issuer-name": issuer, "issuer-request-uri": REQUEST_PATH, "token-keys": listed}, indent=1).encode() + b"\n"


def read_directory(raw: bytes) -> Directory:
    """Raises ValueError unless it names an issuer and 1 to 16 keys of type 2."""
    if len(raw) > MAX_BYTES:
        raise ValueError(f"a directory of token keys has at most {MAX_BYTES} bytes")
    try:
        document = json.loads(raw)
        keys = [_key(entry) for entry in document["token-keys"] if entry["token-type"] == 2]
        issuer = document["issuer-name"]
    except (KeyError, TypeError, AttributeError, RecursionError, OverflowError, UnicodeError, ValueError):
        raise ValueError("not a directory of token keys") from None
    if not isinstance(issuer, str) or not 0 < len(issuer) < 256 or not 0 < len(keys) <= MAX_KEYS:
        raise ValueError("a directory names its issuer and 1 to 16 token keys of type 2")
    return Directory(issuer, tuple(sorted(keys, key=lambda key: -key.not_before)))


def _key(entry: dict[str, Any]) -> IssuerKey:
    public = PublicKey.parse(base64.urlsafe_b64decode(entry["token-key"]))
    return IssuerKey(public, int(entry.get("not-before", 0)), int(entry.get("not-after", _FOREVER)))
