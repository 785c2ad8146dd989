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
from leanto_cloud.http_server.asgi import MAX_HEADER_BYTES
from leanto_cloud.tls import LOOPBACK

REQUEST_S = 10.0  # for TLS, and for a request to begin: from the connection's start and from the end of each answer
STALL_S = 30.0  # for what was written to be taken
CONNECTIONS = 512


class Impatient(H11Protocol):
    """Ends a connection on which no request begins in time, one that does not take its answer, and one too many."""

    def connection_made(self, transport: Any) -> None:
        """As uvicorn's own, with a clock."""
        super().connection_made(transport)
        transport.set_write_buffer_limits(1)  # we hear of what is not taken, however little; at 0, asyncio's TLS waits for ever
        self._stall: asyncio.TimerHandle | None = None
        self._look_again()
        if len(self.connections) > CONNECTIONS:
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """As uvicorn's own."""
        self._next_look.cancel()
        self._taken()
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        """As uvicorn's own, with the clock set anew."""
        super().on_response_complete()
        self._next_look.cancel()
        self._look_again()

    def pause_writing(self) -> None:
        """The caller does not keep up."""
        super().pause_writing()
        self._stall = asyncio.get_running_loop().call_later(STALL_S, self.transport.abort)

    def resume_writing(self) -> None:
        """It has taken all that was written."""
        self._taken()
        super().resume_writing()

    def _taken(self) -> None:
        if self._stall is not None:
            self._stall.cancel()

    def _look_again(self) -> None:
        self._next_look = asyncio.get_running_loop().call_later(REQUEST_S, self._look)

    def _look(self) -> None:
        at_work = self.cycle is not None and not self.cycle.response_complete and not self.transport.is_closing()
        if at_work:
            self._look_again()
        else:
            self.transport.abort()


class Server(uvicorn.Server):
    """uvicorn's, with a clock on TLS."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Take connections from `sockets`."""
        await self.lifespan.startup()
        loop, ssl = asyncio.get_running_loop(), self.config.ssl
        handshake_s = REQUEST_S if ssl else None

        def protocol() -> Impatient:
            return Impatient(self.config, self.server_state, {})

        self.servers = [await loop.create_server(protocol, sock=each, ssl=ssl, ssl_handshake_timeout=handshake_s) for each in sockets or ()]
        self.started = True


@dataclass(frozen=True, slots=True)
class Listening:
    """Where, and with which certificate (None: plaintext, on this machine only)."""

    host: str = "127.0.0.1"
    port: int = 0
    certificate: Path | None = None
    key: Path | None = None


def make_server(app: Any, where: Listening) -> tuple[Server, socket.socket, str]:
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
        log_level="critical",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        date_header=False,
        timeout_keep_alive=int(REQUEST_S),
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
    address = f"{'http' if where.certificate is None else 'https'}://{host}:{listening.getsockname()[1]}"
    return Server(config), listening, address
