"""What a value shows of itself ends in logs and tracebacks: never a prompt, an answer, a token or a private key."""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
from collections.abc import Iterator

import pytest

import leanto
import leanto_wire
from leanto.chat import Turn
from leanto.decision import Decision
from leanto.events import Reply, TextEvent
from leanto.local.run import News
from leanto.remote import RemoteChunk, RemoteRequest
from leanto.remote.wallet import Kept
from leanto.request import Ask
from leanto.router.training import Outcome
from leanto_wire.ohttp.bhttp import Request, ResponseReader
from leanto_wire.ohttp.key_config import GatewayKey
from leanto_wire.seal import Binding
from leanto_wire.tokens.privacy_pass import Token
from mint import CHALLENGE, request_token, signing_key

CANARY = "canary"
RAW = CANARY.encode() * 60
PRIVATE = GatewayKey.of(RAW[:32])
PENDING = request_token(CHALLENGE, signing_key().known.public, nonce=RAW[:32])
VALUES = (
    Ask(CANARY, "text", "public", stop=(CANARY,)),
    RemoteRequest(CANARY, prefix=CANARY, stop=(CANARY,)),
    RemoteChunk(CANARY, (1, 2), (-1.0, -1.0)),
    Reply(CANARY, "local", None, dataclasses.MISSING, None, 1, 1.0, {CANARY: CANARY}),  # type: ignore[arg-type]
    TextEvent(CANARY, "local"),
    Turn(CANARY, CANARY),
    News(CANARY),
    Outcome(CANARY, 0.5),
    Kept(RAW, 1),
    Token(RAW[:32], bytes(32), bytes(32), RAW[:256]),
    Binding(bytes(32), bytes(32), RAW),
    Request(b"POST", b"https", b"node", b"/", (), RAW),
    ResponseReader(_buffer=bytearray(RAW)),
    PRIVATE,
    PENDING,
)
TELLING = {"prompt", "prefix", "stop", "answer", "said", "token", "nonce", "private", "secret", "inverse", "authenticator", "content"}


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_a_value_does_not_show_what_it_holds(value: object) -> None:
    for shown in (repr(value), str(value), f"{[value]}"):
        assert CANARY not in shown
        assert str(PENDING.inverse) not in shown


def test_what_is_not_shown_still_counts_when_values_are_compared() -> None:
    assert Ask("a", "text", "public") != Ask("b", "text", "public")
    assert RemoteChunk("a") != RemoteChunk("b")


def values_of(package: object) -> Iterator[type]:
    for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):  # type: ignore[attr-defined]
        if found.name.endswith("__main__"):
            continue
        try:
            module = importlib.import_module(found.name)
        except (ImportError, leanto.MissingExtra):
            continue
        yield from (kind for kind in vars(module).values() if isinstance(kind, type) and dataclasses.is_dataclass(kind))


def test_no_value_of_the_sdk_or_the_wire_shows_a_field_of_a_telling_name() -> None:
    kinds = {
        kind for package in (leanto, leanto_wire) for kind in values_of(package) if kind.__module__.startswith(("leanto.", "leanto_wire."))
    }
    assert {Ask, RemoteRequest, Token, Decision} <= kinds
    shown = {(kind.__name__, field.name) for kind in kinds for field in dataclasses.fields(kind) if field.repr and field.name in TELLING}
    assert shown == set()
