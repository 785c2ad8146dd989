"""A small HTTP server for the log, the witness and the issuer: known paths, bounded bodies, constant errors, and no log of who asked.

It speaks plaintext: beyond this machine it stands behind whatever ends TLS there. Knows nothing of what it serves.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

MAX_BODY_BYTES = 64 << 10
TIMEOUT_S = 10.0

Answer = tuple[int, str, bytes]  # status, content type, body


@dataclass(frozen=True, slots=True)
class Request:
    """`authorization` and `content_type` are the headers of those names, or empty."""

    method: str
    path: str
    body: bytes = b""
    authorization: str = ""
    content_type: str = ""


Respond = Callable[[Request], Answer]


def make_server(host: str, port: int, respond: Respond) -> ThreadingHTTPServer:
    """A server that answers by `respond`; `server_address` says where. Raises OSError where it cannot listen."""

    class Handler(BaseHTTPRequestHandler):
        server_version = "leanto"
        sys_version = ""
        protocol_version = "HTTP/1.1"
        timeout = TIMEOUT_S

        def do_GET(self) -> None:
            self._answer(b"")

        def do_POST(self) -> None:
            length = self.headers.get("Content-Length", "")
            if not length.isascii() or not length.isdecimal() or int(length[:12]) > MAX_BODY_BYTES or "Transfer-Encoding" in self.headers:
                self.close_connection = True
                self._send((413, "text/plain", b""))
                return
            self._answer(self.rfile.read(int(length)))

        def _answer(self, body: bytes) -> None:
            try:
                headers = (self.headers.get(name, "") for name in ("Authorization", "Content-Type"))
                answer = respond(Request(self.command, self.path, body, *headers))
            except Exception:  # whatever it was, the caller learns nothing of it
                answer = (500, "text/plain", b"")
            self._send(answer)

        def _send(self, answer: Answer) -> None:
            status, kind, content = answer
            self.send_response_only(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: Any) -> None:
            return

    server = ThreadingHTTPServer((host, port), Handler)
    server.daemon_threads = True
    return server
