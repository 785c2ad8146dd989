"""A release log with witnesses, all real: folders, keys, servers on loopback."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from leanto_cloud.http_server import Respond, make_server
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
    server = make_server("127.0.0.1", 0, respond)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
