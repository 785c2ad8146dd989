"""A development node as a child process on loopback: for the demo, the examples and trying things out. Never for production.

Started by its command line alone, so the SDK imports nothing of the server.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType

from leanto.errors import CloudUnavailable, MissingExtra, TargetError
from leanto.remote import RemoteTarget
from leanto.remote.target import dial_target

START_S = 30.0
STOP_S = 5.0


class LocalNode:
    """`with LocalNode() as node: Client(cloud=node.target)`. Serves pocket-large, or the model at `model`.

    Raises MissingExtra without the `cloud` extra, CloudUnavailable when the node does not come up.
    """

    def __init__(self, model: str | Path | None = None) -> None:
        self.model_id = ""
        self._model = model
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> LocalNode:
        for package in ("leanto_cloud", "grpc_health", "grpc_reflection"):
            if importlib.util.find_spec(package) is None:
                raise MissingExtra("a local node", "cloud")
        self._folder = tempfile.TemporaryDirectory(prefix="leanto-node-")
        try:
            self.target = self._start(Path(self._folder.name))
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    @property
    def pid(self) -> int | None:
        """The process id while it runs."""
        return self._process.pid if self._process else None

    def stop(self) -> None:
        """Ask it to end, and end it if it does not. May be called twice."""
        process, self._process = self._process, None
        try:
            if process is not None and process.poll() is None:
                process.terminate()
                try:
                    process.wait(STOP_S)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
        finally:
            self._folder.cleanup()

    def _start(self, folder: Path) -> RemoteTarget:
        ready, log = folder / "ready.json", folder / "log"
        command = [sys.executable, "-m", "leanto_cloud", "serve", "--development", "--ready-file", str(ready)]
        if self._model is not None:
            command += ["--model", str(self._model)]
        with log.open("wb") as out:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
        until = time.monotonic() + START_S
        while not ready.exists():
            if self._process.poll() is not None:
                raise CloudUnavailable(f"the local node ended at once: {_last_line(log)}")
            if time.monotonic() > until:
                raise CloudUnavailable(f"the local node was not ready within {START_S:.0f} s: {_last_line(log)}")
            time.sleep(0.02)
        target, self.model_id = read_ready(ready)
        return target


def read_ready(path: Path) -> tuple[RemoteTarget, str]:
    """Where the development node that wrote this ready file is, and its model's name. Raises CloudUnavailable for a file that is none."""
    try:
        described = json.loads(path.read_bytes())
        address, root, model_id = (described[name] for name in ("address", "development_root", "model_id"))
        if all(isinstance(value, str) for value in (address, root, model_id)):
            target = RemoteTarget(address, root)
            dial_target(target)
            return target, model_id
    except (OSError, ValueError, KeyError, TypeError, RecursionError, TargetError):
        pass
    raise CloudUnavailable(f"{path}: the local node does not say where it is; start it again")


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it said nothing"
