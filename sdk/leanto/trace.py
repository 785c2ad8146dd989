"""The decision log: one JSON line per request, appended, and never the text of a prompt or an answer."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path

from leanto.decision import Decision
from leanto.errors import OutputError

_log = logging.getLogger("leanto")


class DecisionLog:
    """Appends to the JSONL file at `path`. Raises OutputError when it cannot be opened."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        try:
            self._file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600)
        except OSError as error:
            raise OutputError(f"{path}: the decision log cannot be written: {error.strerror or error}", path=str(path)) from None

    def write(self, decision: Decision) -> None:
        """One line in one write, so that several processes may share a file. A full disk costs the line, not the answer."""
        line = json.dumps(decision.to_dict(), ensure_ascii=False, separators=(",", ":")) + "\n"
        try:
            os.write(self._file, line.encode())
        except OSError as error:
            _log.warning("%s: a decision was not logged: %s", self.path, error.strerror or error)

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)
