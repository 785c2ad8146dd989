"""What the command lines of our HTTP servers share: where to listen, and serving until told to end."""

from __future__ import annotations

import argparse
import asyncio
import signal
from pathlib import Path
from typing import Any

from leanto_cloud import redaction


def add_listening(parser: argparse.ArgumentParser) -> None:
    """The options that `serve` reads."""
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1)")
    parser.add_argument("--port", type=int, default=0, help="port; 0 takes a free one (default: 0)")
    parser.add_argument("--tls-certificate", type=Path, metavar="FILE", help="PEM certificate chain; needed beyond this machine")
    parser.add_argument("--tls-key", type=Path, metavar="FILE", help="its PEM private key")


async def serve(app: Any, options: argparse.Namespace, what: str) -> int:
    """Serve the ASGI application until SIGTERM or SIGINT, and say where, and `what` it is. Raises ConfigurationError."""
    try:
        from leanto_cloud.http_server.serving import Listening, make_server
    except ImportError:
        from leanto_cloud.errors import ConfigurationError

        raise ConfigurationError("serving HTTP needs uvicorn: pip install 'leanto[cloud]'") from None
    redaction.install()
    redaction.guard_loop(asyncio.get_running_loop())
    server, listening, address = make_server(app, Listening(options.host, options.port, options.tls_certificate, options.tls_key))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, server.handle_exit)  # before anybody knows of us; uvicorn raises what it caught again at its end
    with listening:
        print(f"{address} {what}", flush=True)
        await server.serve(sockets=[listening])
    return 0
