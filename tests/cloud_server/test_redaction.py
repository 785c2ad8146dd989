"""What a log record may hold: the node's own words, and nothing of anybody's exception."""

from __future__ import annotations

import logging
import sys

import pytest

from leanto_cloud.engines.base import EngineRequest, EngineToken
from leanto_cloud.http_server import Request
from leanto_cloud.redaction import OWN, WITHHELD, RedactedRecord, place
from leanto_wire.ohttp.bhttp import Request as BinaryRequest
from leanto_wire.ohttp.key_config import GatewayKey
from leanto_wire.seal import Binding
from leanto_wire.tokens.privacy_pass import PendingToken, Token
from mint import CHALLENGE, signing_key


def record(name: str, message: str, *arguments: object) -> str:
    try:
        raise ValueError("secret")
    except ValueError:
        caught = sys.exc_info()
    made = RedactedRecord(name, logging.ERROR, "file.py", 1, message, arguments, caught)
    return logging.Formatter("%(name)s: %(message)s").format(made)


def test_the_nodes_own_words_pass_without_the_traceback() -> None:
    assert record(OWN, "serving %s", "m@1") == f"{OWN}: serving m@1"
    assert record(f"{OWN}.part", "ready") == f"{OWN}.part: ready"


def test_the_words_of_others_are_withheld() -> None:
    assert record("grpc._cython.cygrpc", "Unexpected %s", "secret") == f"grpc._cython.cygrpc: {WITHHELD}"
    assert record(f"{OWN}x", "secret") == f"{OWN}x: {WITHHELD}"


def test_an_exception_is_told_by_type_and_place_alone() -> None:
    try:
        raise KeyError("secret")
    except KeyError as error:
        told = place(error)
    assert told.startswith("KeyError at test_redaction.py:")
    assert "secret" not in told
    assert place(KeyError("secret")) == "KeyError"


CANARY = "canary-7f3a"
SECRET = CANARY.encode()
SECRETS: dict[str, object] = {
    "a gateway's key": GatewayKey.of(SECRET.ljust(32)),
    "an issuer's key": signing_key(),
    "a prompt": EngineRequest(CANARY, prefix=CANARY, stop=(CANARY,)),
    "an answer": EngineToken(1, CANARY, -0.5),
    "an account": Request("POST", "/", SECRET, f"Bearer {CANARY}"),
    "a token": Token(SECRET, b"", b"", SECRET),
    "a token to be": PendingToken(b"", Token(SECRET, b"", b"", b""), signing_key().known.public, int.from_bytes(SECRET, "big"), CHALLENGE),
    "a binding": Binding(bytes(32), bytes(32), SECRET),
    "an inner request": BinaryRequest(b"POST", b"https", b"node", b"/", (), SECRET),
}


@pytest.mark.parametrize("name", SECRETS)
def test_what_is_secret_shows_in_no_repr(name: str) -> None:
    shown = repr(SECRETS[name])
    assert CANARY not in shown
    assert str(int.from_bytes(SECRET, "big")) not in shown
    assert "PRIVATE" not in shown.upper()
