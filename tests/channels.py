"""Everything by which a byte could leave the process, recorded: a scripted cloud leg, gRPC's channels, sockets and name look-ups."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

from grpc import aio

from fakes import FakeCall, FakeCloud
from leanto import CloudUnavailable
from leanto.remote import RemoteRequest

INTERNET = (socket.AF_INET, socket.AF_INET6)
SENDING = ("connect", "connect_ex", "send", "sendall", "sendto", "sendmsg")


class Channels:
    """`used` names every attempt; the attempts themselves fail, so that nothing leaves a test either."""

    def __init__(self) -> None:
        self.used: list[str] = []

    def attempt(self, name: str) -> CloudUnavailable:
        self.used.append(name)
        return CloudUnavailable(f"{name}: this test has no network", retryable=True)

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Patch the socket layer and gRPC's channels, which do not go through it."""
        methods = {name: self._guarded(name) for name in SENDING}
        lookups = {name: self._refused(name) for name in ("getaddrinfo", "gethostbyname")}
        grpc = {name: self._refused("channel") for name in ("insecure_channel", "secure_channel")}
        with mock.patch.multiple(socket.socket, **methods), mock.patch.multiple(socket, **lookups), mock.patch.multiple(aio, **grpc):
            yield

    def _guarded(self, name: str) -> Any:
        """A method of sockets that still works within the process: the event loop wakes itself through a pair of them."""
        original = getattr(socket.socket, name)

        def method(this: socket.socket, *arguments: Any, **named: Any) -> Any:
            if this.family in INTERNET:
                raise self.attempt(name)
            return original(this, *arguments, **named)

        return method

    def _refused(self, name: str) -> Any:
        def function(*_: Any, **__: Any) -> Any:
            raise self.attempt(name)

        return function


class RecordingCloud(FakeCloud):
    """A leg that tells the channels of every call."""

    def __init__(self, channels: Channels, script: Any) -> None:
        super().__init__(script)
        self._channels = channels

    def generate(self, request: RemoteRequest) -> FakeCall:
        self._channels.used.append("leg")
        return super().generate(request)
