"""Keeps a worker serving: another takes over when it says that it is worn, or when it has died. Sees no request and writes no file.

Workers are forked from this process, which has no gRPC, no model and no threads, so a new one has nothing of the old. It serves before the
old one drains: both listen on one port (SO_REUSEPORT), which this process holds without listening. Knows nothing of what a worker does.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, TextIO

from leanto_cloud.errors import ConfigurationError
from leanto_cloud.redaction import log

START_S = 600.0  # a large model takes its time
GRACE_S = 10.0  # beyond the drain, before a worker is killed
STEADY_S = 1.0  # a worker serves at least so long before the next is started; one that dies sooner counts against the next start
LONGEST_PAUSE_S = 10.0

State = Literal["starting", "serving", "retired"]


class Link:
    """The worker's end. When the other end is gone, so is the supervisor, and `socket` becomes readable."""

    def __init__(self, end: socket.socket) -> None:
        self.socket = end

    def ready(self, description: dict[str, Any]) -> None:
        """Say that this worker serves, and how it is reached."""
        self._say({"ready": description})

    def worn(self) -> None:
        """Ask for a successor. This worker serves on until it is told to end."""
        self._say({"worn": True})

    def _say(self, message: dict[str, Any]) -> None:
        with suppress(OSError):
            self.socket.sendall(json.dumps(message).encode() + b"\n")


@dataclass(slots=True)
class _Worker:
    pid: int
    link: socket.socket
    log: int
    state: State
    since: float
    until: float
    heard: bytes = b""


class Supervisor:
    """Runs `work(link)` in children, one at a time but for the overlap. `on_ready` hears of the first that serves."""

    def __init__(self, work: Callable[[Link], int], on_ready: Callable[[dict[str, Any]], None], *, own: TextIO, drain_s: float) -> None:
        self._work = work
        self._on_ready = on_ready
        self._own = own
        self._drain_s = drain_s
        self._workers: list[_Worker] = []
        self._selector = selectors.DefaultSelector()
        self._wake = socket.socketpair()
        self._stopping = self._described = False
        self._start_at: float | None = time.monotonic()
        self._quick_deaths = 0
        self._code = 0

    def run(self) -> int:
        """Serve until SIGTERM or SIGINT. The exit code is the worker's where the very first could not serve, else 0."""
        self._watch_signals()
        while self._workers or self._start_at is not None:
            for key, _ in self._selector.select(self._pause_s()):
                if key.fd in self._selector.get_map():  # else its worker was buried a moment ago
                    key.data()
            self._mind_the_time()
        return self._code

    def _watch_signals(self) -> None:
        for end in self._wake:
            end.setblocking(False)
        signal.set_wakeup_fd(self._wake[1].fileno())
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: None)
        self._selector.register(self._wake[0], selectors.EVENT_READ, self._stop)

    def _stop(self) -> None:
        self._wake[0].recv(64)
        self._stopping, self._start_at = True, None
        for worker in self._workers:
            self._retire(worker)

    def _retire(self, worker: _Worker) -> None:
        worker.state, worker.until = "retired", time.monotonic() + self._drain_s + GRACE_S
        os.kill(worker.pid, signal.SIGTERM)

    def _mind_the_time(self) -> None:
        now = time.monotonic()
        for worker in self._workers:
            if now >= worker.until:
                worker.until = float("inf")
                log.error("worker %d took too long and is killed", worker.pid)
                os.kill(worker.pid, signal.SIGKILL)
        if self._start_at is not None and now >= self._start_at:
            self._start_at = None
            self._start()

    def _pause_s(self) -> float | None:
        times = [worker.until for worker in self._workers] + ([] if self._start_at is None else [self._start_at])
        soonest = min(times, default=float("inf"))
        return None if soonest == float("inf") else max(0.0, soonest - time.monotonic())

    def _start(self) -> None:
        ours, theirs = socket.socketpair()
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            ours.close()
            os.close(reading)
            self._become_worker(theirs, writing)
        theirs.close()
        os.close(writing)
        now = time.monotonic()
        worker = _Worker(pid, ours, reading, "starting", now, now + START_S)
        self._workers.append(worker)
        self._selector.register(ours, selectors.EVENT_READ, partial(self._hear, worker))
        self._selector.register(reading, selectors.EVENT_READ, partial(self._relay, worker))

    def _become_worker(self, link: socket.socket, writing: int) -> None:
        """In the child: let go of what is the supervisor's, work, and end here."""
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, signal.SIG_DFL)
            self._selector.close()
            for end in (*self._wake, *(worker.link for worker in self._workers)):
                end.close()
            for worker in self._workers:
                os.close(worker.log)
            os.dup2(writing, self._own.fileno())
            os.close(writing)
            code = self._work(Link(link))
        finally:
            os._exit(code)  # not the parent's way out

    def _hear(self, worker: _Worker) -> None:
        said = b""
        with suppress(OSError):
            said = worker.link.recv(65536)
        if not said:
            self._ended(worker)
            return
        *lines, worker.heard = (worker.heard + said).split(b"\n")
        for line in lines:
            message = json.loads(line)
            if "ready" in message:
                self._now_serves(worker, message["ready"])
            elif worker.state == "serving" and all(other.state != "starting" for other in self._workers) and not self._stopping:
                self._start_at = max(time.monotonic(), worker.since + STEADY_S)

    def _now_serves(self, worker: _Worker, description: dict[str, Any]) -> None:
        if not self._described:
            self._described = True
            self._on_ready(description)
        for other in self._workers:
            if other.state == "serving":
                self._retire(other)
        if worker.state == "starting":
            worker.state, worker.since, worker.until = "serving", time.monotonic(), float("inf")

    def _relay(self, worker: _Worker) -> bool:
        """Pass on what the worker's own log says; False at its end."""
        said = os.read(worker.log, 65536)
        self._own.write(said.decode(errors="replace"))
        self._own.flush()
        if not said:
            self._selector.unregister(worker.log)
        return bool(said)

    def _ended(self, worker: _Worker) -> None:
        self._workers.remove(worker)
        self._selector.unregister(worker.link)
        worker.link.close()
        while worker.log in self._selector.get_map() and self._relay(worker):
            pass
        os.close(worker.log)
        code = os.waitstatus_to_exitcode(os.waitpid(worker.pid, 0)[1])
        if worker.state == "retired" or self._stopping:
            return
        if not self._described:
            self._code = code if code > 0 else 1
            return
        log.error("worker %d %s; another starts", worker.pid, _how(code))
        lived_s = time.monotonic() - worker.since
        self._quick_deaths = self._quick_deaths + 1 if worker.state == "starting" or lived_s < STEADY_S else 0
        self._start_at = time.monotonic() + (min(LONGEST_PAUSE_S, 0.05 * 2**self._quick_deaths) if self._quick_deaths else 0.0)


def hold_port(host: str, port: int) -> socket.socket:
    """A socket that holds the address for workers and takes no connection. Raises ConfigurationError if somebody else has it."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        with socket.socket(family, kind) as probe:  # alone: two supervisors must not share a port by mistake
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
        held = socket.socket(family, kind)
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        held.bind(address)
    except OSError:
        raise ConfigurationError(f"cannot listen on {host}:{port}; choose another --host or --port") from None
    return held


def _how(code: int) -> str:
    return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
