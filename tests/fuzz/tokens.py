"""One-time tokens: keys, directories, tokens, and what issuer and client say to each other; and the file that a client keeps them in.

The same case changes the same places, of a key that is new in each process.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing, suppress
from functools import cache
from random import Random

from fuzz.changes import changed_json, drawn, fixed
from fuzz.target import Target, written
from leanto.errors import CloudUnavailable, TargetError
from leanto.remote.wallet import TokenFile
from leanto_wire.errors import TokenError
from leanto_wire.tokens import PendingToken, PublicKey, Token, request_token
from leanto_wire.tokens.directory import read_directory
from leanto_wire.tokens.privacy_pass import issue
from mint import CHALLENGE, NOW, key_file, mint, signing_key


@cache
def token() -> bytes:
    """A good one."""
    return mint()


@cache
def pending() -> tuple[PendingToken, bytes]:
    """What a client keeps, and the issuer's sound answer."""
    asked = request_token(CHALLENGE, signing_key().known.public)
    return asked, issue(asked.request, signing_key().private)


def spent(raw: bytes) -> None:
    """As a node takes it. None that was changed holds."""
    Token.parse(raw).verify(signing_key().known.public, CHALLENGE)
    assert raw == token(), "a token that was changed is taken"


def finished(raw: bytes) -> None:
    """The issuer's answer, unblinded."""
    assert Token.parse(pending()[0].finish(raw).encode()).authenticator


def public_key(raw: bytes) -> None:
    """A key is written in one way alone."""
    assert PublicKey.parse(raw).encoded == raw


@cache
def kept() -> tuple[bytes, ...]:
    """Files of a wallet: one of ours, and some whose tables are made otherwise."""
    tables = (
        "CREATE TABLE token (challenge BLOB, token BLOB, not_after INTEGER) STRICT",
        "CREATE TABLE token (challenge, token, not_after)",
        "CREATE TABLE token (challenge BLOB, not_after INTEGER)",
        "CREATE VIEW token AS SELECT 1 AS challenge, 2 AS token, 3 AS not_after",
    )
    return tuple(
        _wallet(table, values) for table in tables for values in ((CHALLENGE.digest, token(), NOW), (CHALLENGE.digest, "text", "no"))
    )


def _wallet(table: str, values: tuple[object, ...]) -> bytes:
    path = written("made", b"")
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute(table)
        with suppress(sqlite3.Error):
            database.execute(f"INSERT INTO token VALUES ({','.join('?' * table.count(','))}, ?)", values[: table.count(",") + 1])
    return path.read_bytes()


def wallet(raw: bytes) -> None:
    """Opened, and asked for a token."""
    file = TokenFile(written("wallet", raw))
    try:
        found, left = file.take(CHALLENGE.digest, NOW - 1)
    finally:
        file.close()
    assert found is None or isinstance(getattr(found, "token", found), bytes), "what is spent is no token"
    assert isinstance(left, int)


def _kept(random: Random) -> bytes:
    return kept()[0] if random.random() < 0.5 else random.choice(kept())


TARGETS = (
    Target("tokens.token", fixed(token), spent, (TokenError,)),
    Target("tokens.request", fixed(lambda: pending()[0].request), lambda raw: issue(raw, signing_key().private), (TokenError,)),
    Target("tokens.response", fixed(lambda: pending()[1]), finished, (TokenError,)),
    Target("tokens.key", fixed(lambda: signing_key().known.public.encoded), public_key, (ValueError,)),
    Target("tokens.directory", fixed(lambda: key_file().directory, changed_json), read_directory, (ValueError,)),
    Target("tokens.wallet", drawn(_kept), wallet, (TargetError, CloudUnavailable)),
)
