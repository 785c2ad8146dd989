"""Issuers, tokens and redeemers for tests: real keys, made once, and everything else by hand."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from leanto.remote import TokenSource
from leanto_cloud.http_server import Answer, Request
from leanto_cloud.tokens.accounts import Accounts
from leanto_cloud.tokens.issuer import Issuer
from leanto_cloud.tokens.keys import KeyFile, SigningKey
from leanto_cloud.tokens.redeemer import Redeemer
from leanto_cloud.tokens.spent import SpentFile
from leanto_wire.tokens.privacy_pass import TokenChallenge, issue, request_token
from logs import served

ISSUER, ORIGIN, NOW = "issuer.example", "node.example", 1_700_000_000
CHALLENGE = TokenChallenge(ISSUER, ORIGIN)
VARIABLE = "LEANTO_TOKEN_ACCOUNT"


@cache
def signing_key(number: int = 0, not_before: int = 0, not_after: int = 1 << 53) -> SigningKey:
    """A key, the same for the same number and time."""
    return SigningKey.generate(not_before, not_after)


def key_file(*keys: SigningKey) -> KeyFile:
    """What the issuer of the tests signs with."""
    return KeyFile(ISSUER, keys or (signing_key(),))


def mint(key: SigningKey | None = None, challenge: TokenChallenge = CHALLENGE) -> bytes:
    """A fresh token, issued and unblinded."""
    key = key or signing_key()
    pending = request_token(challenge, key.known.public)
    return pending.finish(issue(pending.request, key.private)).encode()


def redeemer(folder: Path, *keys: SigningKey, **more: Any) -> Redeemer:
    """One whose store lies in `folder`."""
    return Redeemer(CHALLENGE, [key.known for key in keys or (signing_key(),)], SpentFile(folder / "spent"), **more)


class Witnessed:
    """An issuer that writes down all that it sees and says."""

    def __init__(self, issuer: Issuer) -> None:
        self._issuer = issuer
        self.seen: list[tuple[Request, Answer]] = []

    def respond(self, request: Request) -> Answer:
        answer = self._issuer.respond(request)
        self.seen.append((request, answer))
        return answer

    @property
    def issued(self) -> list[tuple[Request, Answer]]:
        return [(request, answer) for request, answer in self.seen if request.method == "POST" and answer[0] == 200]


@contextmanager
def running_issuer(folder: Path, *, tokens: int = 100, keys: KeyFile | None = None) -> Iterator[tuple[Witnessed, str, str]]:
    """(issuer, URL, account key) of a real server."""
    accounts = Accounts(folder / "accounts")
    issuer = Witnessed(Issuer(keys or key_file(), accounts.charge, lambda: NOW))
    with served(issuer.respond) as url:
        yield issuer, url, accounts.open(tokens)
    accounts.close()


def source(folder: Path, url: str, **more: Any) -> TokenSource:
    """Where a client gets its tokens."""
    return TokenSource(url, ORIGIN, folder / "wallet", name=ISSUER, **{"batch": 4, **more})
