"""The node as a gRPC server: services, limits, and a drain that lets running answers end. Knows nothing of command lines."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import grpc
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc  # type: ignore[import-untyped, unused-ignore]  # gRPC ships no types for these
from grpc_health.v1.health import aio as health  # type: ignore[import-untyped, unused-ignore]
from grpc_reflection.v1alpha import reflection  # type: ignore[import-untyped, unused-ignore]

from leanto_cloud.admission import Admission
from leanto_cloud.engines.base import Engine
from leanto_cloud.errors import ConfigurationError
from leanto_cloud.guard import Guard
from leanto_cloud.identity import Identity
from leanto_cloud.service import PrivateCompute
from leanto_wire.seal import MAX_MESSAGE_BYTES
from leanto_wire.v1 import private_compute_pb2, private_compute_pb2_grpc

SERVICE = private_compute_pb2.DESCRIPTOR.services_by_name["PrivateCompute"].full_name
HEALTH = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name

_OPTIONS = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES + 8192),
    ("grpc.max_metadata_size", 8192),
    ("grpc.compression_enabled_algorithms_bitset", 1),  # identity alone: sealed bytes do not compress, bombs do
    ("grpc.so_reuseport", 0),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
)


@dataclass(frozen=True, slots=True)
class Limits:
    """How much at once. `waiting` requests stand in line behind `running`; `drain_s` is how long a drain may take."""

    running: int = 2
    waiting: int = 16
    drain_s: float = 10.0


class Server:
    """One node on one address."""

    def __init__(self, engine: Engine, identity: Identity, *, host: str = "127.0.0.1", port: int = 0, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self.admission = Admission(running=self.limits.running, waiting=self.limits.waiting)
        self.address = ""
        self._host = f"[{host}]" if ":" in host else host
        self._port = port
        self._health = health.HealthServicer()
        self._server = aio.server(interceptors=[Guard()], options=_OPTIONS, maximum_concurrent_rpcs=None)
        private_compute_pb2_grpc.add_PrivateComputeServicer_to_server(PrivateCompute(engine, identity, self.admission), self._server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        reflection.enable_server_reflection((SERVICE, HEALTH, reflection.SERVICE_NAME), self._server)

    async def start(self, credentials: grpc.ServerCredentials | None = None) -> None:
        """Serve; `address` then says where. Raises ConfigurationError if the address cannot be had."""
        wanted = f"{self._host}:{self._port}"
        try:
            port = self._server.add_secure_port(wanted, credentials) if credentials else self._server.add_insecure_port(wanted)
        except RuntimeError:
            check = "check --tls-certificate and --tls-key, or choose" if credentials else "choose"
            raise ConfigurationError(f"cannot listen on {wanted}; {check} another --host or --port") from None
        self.address = f"{self._host}:{port}"
        await self._server.start()
        for service in ("", SERVICE):
            await self._health.set(service, health_pb2.HealthCheckResponse.SERVING)

    async def stop(self) -> None:
        """Drain: admit no more, let what runs end within `drain_s`, then cancel the rest."""
        self.admission.drain()
        await self._health.enter_graceful_shutdown()
        await self._server.stop(self.limits.drain_s)

    async def serve_until(self, stop: asyncio.Event) -> None:
        """Serve until `stop` is set, then drain."""
        await stop.wait()
        await self.stop()
