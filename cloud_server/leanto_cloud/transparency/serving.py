"""The log's folder over HTTP: the checkpoint and its tiles, nothing else, and nothing can be written."""

from __future__ import annotations

import re
from pathlib import Path

from leanto_cloud.http_server import Answer, Request

_TILE = re.compile(r"tile/(entries|[0-9]{1,2})/(x[0-9]{3}/)*[0-9]{3}(\.p/[0-9]{1,3})?")


class LogServing:
    """Of one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def respond(self, request: Request) -> Answer:
        """200 with the bytes, or 404."""
        name = request.path.removeprefix("/")
        if request.method != "GET" or not (name == "checkpoint" or _TILE.fullmatch(name)):
            return 404, "text/plain", b""
        try:
            content = (self._folder / name).read_bytes()
        except OSError:
            return 404, "text/plain", b""
        return 200, "text/plain; charset=utf-8" if name == "checkpoint" else "application/octet-stream", content
