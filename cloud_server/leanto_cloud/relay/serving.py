"""An ASGI application on uvicorn, with nothing of it that logs, guesses who asked, or waits for ever. Knows nothing of the application."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from leanto_cloud.errors import ConfigurationError
from leanto_cloud.relay.asgi import MAX_HEADER_BYTES
from leanto_cloud.tls import LOOPBACK

HEADERS_S = 10.0
CONNECTIONS = 512


class Impatient(H11Protocol):
    """Closes a connection on which no request has begun in time."""

    def connection_made(self, transport: Any) -> None:
        """As uvicorn's own, with a clock."""
        super().connection_made(transport)
        asyncio.get_running_loop().call_later(HEADERS_S, self._give_up)

    def _give_up(self) -> None:
        if self.cycle is None and not self.transport.is_closing():
            self.transport.close()


@dataclass(frozen=True, slots=True)
class Listening:
    """Where, and with which certificate (None: plaintext, on this machine only)."""

    host: str = "127.0.0.1"
    port: int = 0
    certificate: Path | None = None
    key: Path | None = None


def make_server(app: Any, where: Listening) -> tuple[uvicorn.Server, socket.socket, str]:
    """A server, its socket and its address. Raises ConfigurationError."""
    if (where.certificate is None) is not (where.key is None):
        raise ConfigurationError("--tls-certificate and --tls-key go together")
    if where.certificate is None and where.host not in LOOPBACK:
        raise ConfigurationError(f"--host {where.host} is beyond this machine: give --tls-certificate and --tls-key")
    config = uvicorn.Config(
        app,
        http=Impatient,
        loop="asyncio",
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        date_header=False,
        limit_concurrency=CONNECTIONS,
        timeout_keep_alive=15,
        timeout_graceful_shutdown=10,
        h11_max_incomplete_event_size=MAX_HEADER_BYTES,
        ssl_certfile=where.certificate,
        ssl_keyfile=None if where.key is None else str(where.key),
    )
    try:
        config.load()
    except OSError:
        raise ConfigurationError("cannot read --tls-certificate and --tls-key as PEM files that go together") from None
    try:
        listening = socket.create_server((where.host, where.port), family=socket.AF_INET6 if ":" in where.host else socket.AF_INET)
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # inherited; asyncio sets it for sockets of its own alone
    except OSError as error:
        raise ConfigurationError(f"cannot listen on {where.host}:{where.port}: {error.strerror}; choose another") from None
    host = f"[{where.host}]" if ":" in where.host else where.host
    address = f"{'http' if where.certificate is None else 'https'}://{host}:{listening.getsockname()[1]}/"
    return uvicorn.Server(config), listening, address
