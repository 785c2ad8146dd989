"""Where a user's state lies on this system: a folder of the user's own, made when something is first written there. Knows no contents.

Unix by the XDG Base Directory Specification, macOS by Apple's File System Programming Guide, Windows by its known folders.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from leanto.errors import OutputError


def state_folder(environ: Mapping[str, str] = os.environ, platform: str = sys.platform) -> Path | None:
    """The folder, there or not; None where the system names no home."""
    if platform == "win32":
        local = environ.get("LOCALAPPDATA", "")
        return Path(local) / "leanto" if local else None
    named, home = environ.get("XDG_STATE_HOME", ""), environ.get("HOME", "")
    if os.path.isabs(named):  # a relative one is to be ignored, says the specification
        return Path(named) / "leanto"
    if not home:
        return None
    return Path(home, "Library/Application Support/leanto") if platform == "darwin" else Path(home, ".local/state/leanto")


def state_file(name: str) -> Path:
    """The path of a file in it, the folder made for its owner alone. Raises OutputError."""
    folder = state_folder()
    if folder is None:
        raise OutputError(f"there is no home folder to keep {name} in: set HOME (LOCALAPPDATA on Windows), or name another file")
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        message = f"{folder}: cannot be made ({error.strerror or error}); set XDG_STATE_HOME, or name another file"
        raise OutputError(message, path=str(folder)) from None
    return folder / name
