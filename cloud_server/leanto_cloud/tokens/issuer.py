"""The issuer: an account in, a blind signature out (RFC 9578, section 6). It never sees the token, and keeps nothing of the request.

Knows nothing of nodes, and no node needs it: its public key is enough to take a token.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from leanto_cloud.http_server import Answer, Request
from leanto_wire.errors import TokenError
from leanto_wire.tokens.privacy_pass import PublicKey, issue

DIRECTORY = "/.well-known/private-token-issuer-directory"
REQUEST_PATH = "/token-request"
REQUEST_TYPE = "application/private-token-request"
RESPONSE_TYPE = "application/private-token-response"


class Issuer:
    """Signs with `key`; `charge` says whether the bearer of an account's key may have one more token."""

    def __init__(self, key: RSAPrivateKey, charge: Callable[[str], bool]) -> None:
        self._key = key
        self._charge = charge
        self.public = PublicKey.of(key.public_key())

    def respond(self, request: Request) -> Answer:
        """The directory of keys, or a token's signature: 200, 400, 401, 404, 415."""
        if (request.method, request.path) == ("GET", DIRECTORY):
            return 200, "application/private-token-issuer-directory", self.directory()
        if (request.method, request.path) != ("POST", REQUEST_PATH):
            return _plain(404)
        if request.content_type != REQUEST_TYPE:
            return _plain(415)
        scheme, _, account = request.authorization.partition(" ")
        if scheme != "Bearer" or not 16 <= len(account) <= 256 or not self._charge(account):
            return _plain(401)
        try:
            return 200, RESPONSE_TYPE, issue(request.body, self._key)
        except TokenError:
            return _plain(400)

    def directory(self) -> bytes:
        """The keys as RFC 9578, section 4, has them."""
        key = base64.urlsafe_b64encode(self.public.encoded).decode()
        return json.dumps({"issuer-request-uri": REQUEST_PATH, "token-keys": [{"token-type": 2, "token-key": key}]}).encode()


def read_directory(raw: bytes) -> list[PublicKey]:
    """The keys of type 2 in a directory. Raises ValueError if it is none."""
    try:
        keys = json.loads(raw)["token-keys"]
        return [PublicKey.parse(base64.urlsafe_b64decode(key["token-key"])) for key in keys if key["token-type"] == 2]
    except (KeyError, TypeError, AttributeError, RecursionError):
        raise ValueError("not a directory of token keys") from None


def _plain(status: int) -> Answer:
    return status, "text/plain", b""
