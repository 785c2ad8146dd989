"""Takes from the node's process what could carry a request out of it: core dumps, debuggers, standard streams, writable files.

Each step says what is in force, so that the log promises no more than there is. Knows nothing of requests or of log records.
"""

from __future__ import annotations

import ctypes
import os
import resource
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

TELLTALES = ("GRPC_TRACE", "SSLKEYLOGFILE", "PYTHONTRACEMALLOC", "TORCH_LOGS", "TORCH_TRACE", "TRANSFORMERS_VERBOSITY", "RUST_BACKTRACE")
_SET_DUMPABLE = 4  # prctl's names (linux/prctl.h)
_SET_NO_NEW_PRIVS = 38


def forget_telltales() -> None:
    """Drop the variables by which libraries write down what they work on, and keep gRPC silent. Before those libraries are imported."""
    for name in TELLTALES:
        os.environ.pop(name, None)
    os.environ["GRPC_VERBOSITY"] = "NONE"


def close_memory() -> Iterator[str]:
    """No core dump, and on Linux no debugger and no /proc/PID/mem for other processes of the same user.

    The names of what is in force. macOS knows no such switch: there a debugger of the same user is kept out by code signing alone.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    yield "no core dump"
    if sys.platform == "linux":
        if _prctl(_SET_DUMPABLE, 0):
            yield "not dumpable"
        if _prctl(_SET_NO_NEW_PRIVS, 1):
            yield "no new privileges"


def settle() -> None:
    """What a server that carries secrets but no model does before it reads any of them: no telling variables, closed memory."""
    forget_telltales()
    for _ in close_memory():
        pass


def take_streams() -> TextIO:
    """The node's own way to stderr; whatever else writes to stdout or stderr from now on, native code included, writes nowhere.

    A library that dies often prints what it was working on; Rust's panics do.
    """
    own = os.fdopen(os.dup(2), "w", buffering=1, encoding="utf-8", errors="backslashreplace")
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (1, 2):
        os.dup2(nowhere, stream)
    os.close(nowhere)
    return own


def forbid_writing(own: TextIO) -> Iterator[str]:
    """Let the kernel refuse every write to a file of a disk or of memory, by whichever library. Not where the log itself is one.

    What the kernel itself offers as files (/proc, /sys), where attesters ask for reports, is not counted among them.
    """
    if not stat.S_ISREG(os.fstat(own.fileno()).st_mode):
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
        yield "no file can be written"


def swaps(table: Path = Path("/proc/swaps")) -> bool:
    """Whether this machine has swap space, where that can be read."""
    try:
        return len(table.read_text().splitlines()) > 1
    except OSError:
        return False


def _prctl(option: int, value: int) -> bool:
    return bool(ctypes.CDLL(None).prctl(option, value, 0, 0, 0) == 0)
