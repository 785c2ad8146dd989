"""A release log with witnesses, all real: folders, keys, servers on loopback."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from leanto_cloud.http_server import Answering, Respond
from leanto_cloud.http_server.serving import Listening, make_server
from leanto_cloud.transparency.store import LogStore
from leanto_cloud.transparency.witness import Witness
from leanto_wire.log.note import Verifier

ORIGIN = "example.com/leanto"


def key(number: int) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32)


def store(folder: Path, entries: list[bytes], *, origin: str = ORIGIN, signer: int = 1) -> LogStore:
    log = LogStore(folder, origin, key(signer))
    for entry in entries:
        log.append(entry)
    return log


def witness(memory: Path, log: Verifier, *, number: int = 7, name: str = "witness.example", now_s: float = 1_700_000_000.0) -> Witness:
    return Witness(name, key(number), [log], memory, lambda: now_s)


@contextmanager
def served(respond: Respond) -> Iterator[str]:
    """The address of a server that answers so."""
    server, listening, address = make_server(Answering(respond), Listening())
    thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listening])), daemon=True)
    with listening:
        thread.start()
        try:
            yield address
        finally:
            server.should_exit = True
            thread.join()
