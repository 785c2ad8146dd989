"""The issuer: an account in, a blind signature out (RFC 9578, section 6). It never sees the token, and keeps nothing of the request.

Knows nothing of nodes, and no node needs it: its public keys are enough to take a token.
"""

from __future__ import annotations

from collections.abc import Callable

from leanto_cloud.http_server import Answer, Request
from leanto_cloud.tokens.keys import KeyFile
from leanto_wire.errors import TokenError
from leanto_wire.tokens.directory import DIRECTORY_TYPE, PATH, REQUEST_PATH, REQUEST_TYPE, RESPONSE_TYPE
from leanto_wire.tokens.privacy_pass import REQUEST_BYTES, issue


class Issuer:
    """Signs with `keys`; `charge` says whether the bearer of an account's key may have one more token."""

    def __init__(self, keys: KeyFile, charge: Callable[[str], bool], now_s: Callable[[], float]) -> None:
        self._keys = keys
        self._charge = charge
        self._now_s = now_s

    def respond(self, request: Request) -> Answer:
        """The directory of keys, or a token's signature: 200, 400, 401, 404, 415."""
        if (request.method, request.path) == ("GET", PATH):
            return 200, DIRECTORY_TYPE, self._keys.directory
        if (request.method, request.path) != ("POST", REQUEST_PATH):
            return _plain(404)
        if request.content_type != REQUEST_TYPE:
            return _plain(415)
        key = next((key for key in self._keys.keys if key.known.public.key_id[-1:] == request.body[2:3]), None)
        if len(request.body) != REQUEST_BYTES or key is None or not key.known.valid(self._now_s()):
            return _plain(400)
        scheme, _, account = request.authorization.partition(" ")
        if scheme != "Bearer" or not 16 <= len(account) <= 256 or not self._charge(account):
            return _plain(401)
        try:
            return 200, RESPONSE_TYPE, issue(request.body, key.private)
        except TokenError:
            return _plain(400)


def _plain(status: int) -> Answer:
    return status, "text/plain", b""
