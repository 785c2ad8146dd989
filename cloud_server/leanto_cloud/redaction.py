"""Keeps prompts and answers out of everything the process writes: log records, warnings, uncaught exceptions.

Only the node's own log lines pass, and they hold no text but their own: whatever another library or an exception says is
withheld. Knows nothing of requests.
"""

from __future__ import annotations

import asyncio
import faulthandler
import logging
import sys
import threading
import traceback
import warnings
from types import TracebackType
from typing import Any

OWN = "leanto_cloud"
WITHHELD = "(message withheld)"

log = logging.getLogger(OWN)


def place(error: BaseException) -> str:
    """The type and place of `error`, without its message: `ValueError at service.py:80`."""
    frames = traceback.extract_tb(error.__traceback__, limit=-1)
    where = f" at {frames[-1].filename.rsplit('/', 1)[-1]}:{frames[-1].lineno}" if frames else ""
    return type(error).__name__ + where


class RedactedRecord(logging.LogRecord):
    """A log record that drops what others wrote, and every traceback."""

    def __init__(self, name: str, level: int, path: str, line: int, msg: object, args: Any, *rest: Any, **more: Any) -> None:
        super().__init__(name, level, path, line, msg, args, *rest, **more)
        self.exc_info = self.exc_text = self.stack_info = None
        if name != OWN and not name.startswith(f"{OWN}."):
            self.msg, self.args = WITHHELD, ()


def install() -> None:
    """Make it so for the whole process. Meant for the node's own process: there is no way back."""
    logging.setLogRecordFactory(RedactedRecord)
    logging.captureWarnings(True)
    warnings.simplefilter("ignore")
    sys.excepthook = _on_exception
    threading.excepthook = lambda event: log.error("uncaught in a thread: %s", event.exc_type.__name__)
    sys.unraisablehook = lambda event: log.error("unraisable: %s", event.exc_type.__name__)
    faulthandler.disable()


def guard_loop(loop: asyncio.AbstractEventLoop) -> None:
    """The same for what asyncio reports of lost tasks."""

    def on_error(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        log.error("lost task: %s", place(error) if isinstance(error, BaseException) else "no exception")

    loop.set_exception_handler(on_error)


def _on_exception(_: type[BaseException], error: BaseException, __: TracebackType | None) -> None:
    log.error("uncaught: %s", place(error))
