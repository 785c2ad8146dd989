"""What issuer, log and witness are asked over HTTP, once it is a request, and the file of the issuer's keys."""

from __future__ import annotations

from functools import cache
from random import Random

from fuzz.changes import changed_json, fixed, one_of, text
from fuzz.release_log import log
from fuzz.target import Target, scratch, written
from leanto_cloud.errors import ConfigurationError
from leanto_cloud.http_server import Answer, Request
from leanto_cloud.tokens.issuer import Issuer
from leanto_cloud.tokens.keys import read_keys, write_keys
from leanto_cloud.transparency.serving import LogServing
from leanto_cloud.transparency.witness import Witness, request_body
from leanto_wire.log.note import Note, parse_note, sign
from leanto_wire.tokens.directory import PATH, REQUEST_PATH, REQUEST_TYPE
from leanto_wire.tokens.privacy_pass import request_token
from logs import key, witness
from mint import CHALLENGE, NOW, key_file, signing_key

Parts = tuple[bytes, ...]


class Declined(Exception):
    """A status other than 200."""


def declined(answer: Answer, *statuses: int) -> bytes:
    """The content of a good answer. Raises Declined for one of these statuses."""
    status, _, content = answer
    if status == 200:
        return content
    assert status in statuses, status
    raise Declined(str(status))


def request(parts: Parts) -> Request:
    """Of a method, a path, two headers and a body, as far as they are there."""
    method, path, authorization, content_type, body = (*parts, *[b""] * 5)[:5]
    return Request(method.decode("latin-1"), path.decode("latin-1"), body, authorization.decode("latin-1"), content_type.decode("latin-1"))


@cache
def issuer() -> Issuer:
    """One to whom every account is good."""
    return Issuer(key_file(), lambda _: True, lambda: NOW)


@cache
def asked() -> bytes:
    """What a client sends for a token."""
    return request_token(CHALLENGE, signing_key().known.public).request


def issuer_seed(random: Random) -> Parts:
    """A token's request, or one for the directory."""
    if random.random() < 0.2:
        return b"GET", PATH.encode(), b"", b"", b""
    return b"POST", REQUEST_PATH.encode(), b"Bearer 0123456789abcdef", REQUEST_TYPE.encode(), asked()


def issuer_request(parts: Parts) -> None:
    """The directory, or a token's signature."""
    assert declined(issuer().respond(request(parts)), 400, 401, 404, 415)


def log_seed(random: Random) -> Parts:
    """Some file of the log's."""
    return b"GET", random.choice((b"/checkpoint", b"/tile/0/000.p/4", b"/tile/entries/000.p/4", b"/tile/0/x001/000"))


@cache
def served() -> tuple[LogServing, frozenset[bytes]]:
    """A log's folder beside a secret, and all that may ever be served."""
    folder = log()[0].folder
    (folder / "secret").write_bytes(b"secret")
    files = (folder / "checkpoint", *(file for file in folder.joinpath("tile").rglob("*") if file.is_file()))
    return LogServing(folder), frozenset(file.read_bytes() for file in files)


def log_request(parts: Parts) -> None:
    """Nothing but checkpoint and tiles."""
    server, files = served()
    assert declined(server.respond(request(parts)), 404) in files, "something else is served than the log"


@cache
def watching() -> Witness:
    """A witness of the log, which has seen it."""
    made = witness(scratch("witness") / "memory", log()[0].verifier)
    declined(made.respond(_post(request_body(0, [], parse_note(log()[1].checkpoint)))))
    return made


def _post(body: bytes) -> Request:
    return Request("POST", "/add-checkpoint", body)


def witness_request(body: bytes) -> None:
    """A request as it comes, to cosign what it has seen."""
    assert b"witness.example" in declined(watching().respond(_post(body)), 400, 403, 404, 409, 422)


def _seen() -> bytes:
    return request_body(5, [], parse_note(log()[1].checkpoint))


def witness_checkpoint(raw: bytes) -> None:
    """A checkpoint that the log has signed, whatever it says."""
    said = text(raw)
    note = Note(said, (sign(said, key(1), log()[0].origin),))
    witness_request(request_body(5, [], note))


def _text() -> bytes:
    return parse_note(log()[1].checkpoint).text.encode()


@cache
def keys() -> bytes:
    """The issuer's own."""
    path = written("keys", b"")
    write_keys(path, key_file())
    return path.read_bytes()


def issuer_keys(raw: bytes) -> None:
    """As the issuer reads them when it starts."""
    path = written("keys", raw)
    path.chmod(0o600)
    assert read_keys(path).directory


TARGETS = (
    Target("issuer.request", one_of(issuer_seed), issuer_request, (Declined,)),
    Target("issuer.keys", fixed(keys, changed_json), issuer_keys, (ConfigurationError,), divisor=10),  # OpenSSL tests the primes
    Target("log.request", one_of(log_seed), log_request, (Declined,)),
    Target("witness.request", fixed(_seen), witness_request, (Declined,)),
    Target("witness.signed_checkpoint", fixed(_text), witness_checkpoint, (Declined,)),
)
