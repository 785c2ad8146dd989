"""Malformed notes, checkpoints, proofs, bundles, requests to a witness, tokens and keys: each is read or refused, and nothing else.

`python -m fuzz.log_and_tokens FIRST COUNT` tries cases by number; each follows from its number alone.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from functools import cache
from hashlib import sha256
from pathlib import Path
from random import Random
from tempfile import mkdtemp

from google.protobuf.message import DecodeError

from fuzz.loader import bound_memory
from leanto_cloud.http_server import Request
from leanto_cloud.tokens.issuer import Issuer
from leanto_cloud.transparency.publish import publish
from leanto_cloud.transparency.serving import LogServing
from leanto_cloud.transparency.store import LogStore
from leanto_cloud.transparency.witness import Witness, request_body
from leanto_wire.errors import LogError, TokenError
from leanto_wire.log.checkpoint import parse_checkpoint
from leanto_wire.log.note import Verifier, parse_note
from leanto_wire.log.release import LogPolicy, verify_release
from leanto_wire.log.tiles import subtrees, unpack_entries
from leanto_wire.tokens import PublicKey, Token, request_token
from leanto_wire.tokens.directory import read_directory
from leanto_wire.v1.private_compute_pb2 import ReleaseProof
from logs import store, witness
from mint import CHALLENGE, NOW, key_file, mint, signing_key


def changed(raw: bytes, random: Random) -> bytes:
    """`raw` with a few bytes changed, cut, repeated or added."""
    data = bytearray(raw)
    for _ in range(random.randint(1, 4)):
        at = random.randrange(len(data) + 1)
        kind = random.randrange(5)
        if kind == 0 and at < len(data):
            data[at] ^= 1 << random.randrange(8)
        elif kind == 1:
            data[at:at] = random.randbytes(random.randint(1, 40))
        elif kind == 2:
            del data[at : at + random.randint(1, 40)]
        elif kind == 3:
            data[at:at] = data[at : at + random.randint(1, 400)] * random.randint(1, 8)
        else:
            data[at : at + 1] = random.choice([b"\n", b"\n\n", b"0", b"\xff" * 8, b"\x00", "—".encode(), b"+", b"9" * 30])
    return bytes(data)


@cache
def log() -> tuple[LogStore, ReleaseProof]:
    """A small log, and a proof from it."""
    made = store(Path(mkdtemp()), [b"a", b"b", b"c", b"d"])
    return made, publish(b"release", made, [])


@cache
def watching() -> Witness:
    """A witness of that log."""
    return witness(Path(mkdtemp()) / "memory", log()[0].verifier)


@cache
def issuer() -> Issuer:
    """One to whom every account is good."""
    return Issuer(key_file(), lambda _: True, lambda: NOW)


@cache
def token() -> bytes:
    """A good one."""
    return mint()


def _asked(body: bytes) -> Request:
    return Request("POST", "/token-request", body, "Bearer 0123456789abcdef", "application/private-token-request")


def notes(random: Random) -> None:
    """Notes and checkpoints."""
    parse_note(changed(log()[1].checkpoint, random))
    parse_checkpoint(changed(log()[1].checkpoint, random))


def proofs(random: Random) -> None:
    """Whole proofs of a release, and the tiles that a larger log is read by."""
    made, proof = log()
    found = ReleaseProof.FromString(changed(proof.SerializeToString(), random))
    verify_release(found, sha256(found.release).digest(), LogPolicy(made.verifier), None, None)


def tiles(random: Random) -> None:
    """Tiles and bundles."""
    subtrees(lambda path: changed(log()[0].fetch(path), random), 4)(1, 1)
    unpack_entries(changed(log()[0].fetch("tile/entries/000.p/4"), random))


def requests_to_witness(random: Random) -> None:
    """What a witness is sent, and the paths of a log's server."""
    note = log()[0].checkpoint()[1]
    body = changed(request_body(random.randrange(6), [bytes(32)] * random.randrange(3), note), random) if note else b""
    status, _, _ = watching().respond(Request("POST", "/add-checkpoint", body))
    assert status in (200, 400, 403, 404, 409, 422), status
    path = changed(b"/tile/0/000.p/4", random).decode(errors="replace")
    assert LogServing(log()[0].folder).respond(Request("GET", path))[0] in (200, 404)


def keys(random: Random) -> None:
    """Keys as strings, and as DER."""
    Verifier.parse(changed(str(log()[0].verifier).encode(), random).decode(errors="replace"))
    PublicKey.parse(changed(signing_key().known.public.encoded, random))


def tokens(random: Random) -> None:
    """Tokens, requests for them, and directories of keys."""
    raw = changed(token(), random)
    key = signing_key().known.public
    if random.random() < 0.05:
        assert issuer().respond(_asked(changed(request_token(CHALLENGE, key).request, random)))[0] in (200, 400)
        read_directory(changed(key_file().directory, random))
    Token.parse(raw).verify(key, CHALLENGE)
    assert raw == token(), "a token that was changed is taken"


KINDS: tuple[Callable[[Random], None], ...] = (notes, proofs, tiles, requests_to_witness, keys, tokens)


def main(first: int, count: int) -> int:
    """Try the cases, and print what broke; the number of those."""
    outcomes: Counter[str] = Counter()
    for number in range(first, first + count):
        kind = KINDS[number % len(KINDS)]
        try:
            kind(Random(number))
            outcomes["accepted"] += 1
        except (LogError, TokenError, ValueError, DecodeError) as error:
            outcomes[type(error).__name__] += 1
        except Exception as error:
            print(f"{number} {kind.__name__}: {error!r}")
            outcomes["BROKEN"] += 1
    print(dict(outcomes))
    return outcomes["BROKEN"]


if __name__ == "__main__":
    log(), watching(), token()
    bound_memory()
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2])) > 0)
