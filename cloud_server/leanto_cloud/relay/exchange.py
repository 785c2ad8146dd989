"""What relay and gateway take: POST / with one content type, and a body of bounded size. Knows nothing of what is in it."""

from __future__ import annotations

from leanto_cloud.http_server import asgi
from leanto_cloud.http_server.asgi import Rejected, Scope

MAX_BODY_BYTES = (1 << 20) + (64 << 10)  # of a sealed request, with all that is around it


def check(scope: Scope, content_type: str) -> int | None:
    """The declared length of a request that may pass, None if it is chunked. Raises Rejected."""
    length = asgi.declared_bytes(scope, MAX_BODY_BYTES)
    if scope["path"] != "/":
        raise Rejected(404)
    if scope["method"] != "POST":
        raise Rejected(405)
    if dict(scope["headers"]).get(b"content-type") != content_type.encode():
        raise Rejected(415)
    return length
