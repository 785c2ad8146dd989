"""The node as a gRPC server: services, limits, and a drain that lets running answers end. Knows nothing of command lines."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import grpc
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc  # type: ignore[import-untyped, unused-ignore]  # gRPC ships no types for these
from grpc_health.v1.health import aio as health  # type: ignore[import-untyped, unused-ignore]

from leanto_cloud import known_methods
from leanto_cloud.admission import Admission
from leanto_cloud.engines.base import Engine
from leanto_cloud.errors import CloudError, ConfigurationError
from leanto_cloud.guard import RECEIVE_S, STALL_S, Guard
from leanto_cloud.identity import Identity
from leanto_cloud.service import MAX_GENERATION_S, PrivateCompute
from leanto_cloud.tenant import Tenant, certificate_name
from leanto_cloud.tokens.redeemer import Redeemer
from leanto_wire.seal import MAX_MESSAGE_BYTES
from leanto_wire.v1 import private_compute_pb2, private_compute_pb2_grpc

SERVICE = private_compute_pb2.DESCRIPTOR.services_by_name["PrivateCompute"].full_name
HEALTH = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name

_OPTIONS = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES + 8192),
    ("grpc.max_metadata_size", 8192),
    ("grpc.compression_enabled_algorithms_bitset", 1),  # identity alone: sealed bytes do not compress, bombs do
    ("grpc.max_concurrent_streams", 100),  # of one connection
    ("grpc.max_connection_idle_ms", 300_000),
    ("grpc.max_connection_age_ms", 600_000),
    ("grpc.max_connection_age_grace_ms", 360_000),  # longer than any answer; then calls that nobody takes are cut with their connection
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),  # from a client; after max_ping_strikes its connection is closed
    ("grpc.http2.max_ping_strikes", 2),
)
_SPARE_CALLS = 256  # beside those that run or wait: evidence, health, and requests that are still coming in


@dataclass(frozen=True, slots=True)
class Limits:
    """How much at once, and for how long.

    `waiting` requests stand in line behind `running`, of which one tenant has `per_tenant` at most (None: all of them).
    A connection and a request have `receive_s` each to come whole, a reader has `stall_s` for each chunk.
    A request may wait for `answer_s` and then be answered for as long; a drain takes `drain_s`.
    After `worn_after` requests the server says that it is worn.
    """

    running: int = 2
    waiting: int = 16
    per_tenant: int | None = None
    drain_s: float = 10.0
    answer_s: float = MAX_GENERATION_S
    receive_s: float = RECEIVE_S
    stall_s: float = STALL_S
    worn_after: int | None = None


class Server:
    """One node on one address. With `shared_port`, others may listen there too, and the kernel chooses who takes a connection."""

    def __init__(
        self,
        engine: Engine,
        identity: Identity,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        limits: Limits | None = None,
        tenant: Tenant = certificate_name,
        redeemer: Redeemer | None = None,
        reflection: bool = False,
        shared_port: bool = False,
    ) -> None:
        self.limits = limits = limits or Limits()
        self.admission = Admission(
            running=limits.running,
            waiting=limits.waiting,
            per_tenant=limits.per_tenant,
            wait_s=limits.answer_s,
            worn_after=limits.worn_after,
        )
        self.address = ""
        self._host = f"[{host}]" if ":" in host else host
        self._port = port
        self._health = health.HealthServicer()
        guard = Guard(most=limits.running + limits.waiting + _SPARE_CALLS, receive_s=limits.receive_s, stall_s=limits.stall_s)
        self._server = known_methods.server([guard], _options(limits, shared_port))
        service = PrivateCompute(engine, identity, self.admission, tenant=tenant, redeemer=redeemer, limit_s=limits.answer_s)
        private_compute_pb2_grpc.add_PrivateComputeServicer_to_server(service, self._server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        if reflection:
            _reflect(self._server)

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
        """Drain: take no more, let what runs end within `drain_s`, then cancel the rest."""
        stopping = asyncio.create_task(self._server.stop(self.limits.drain_s))  # first, so that clients look for another node at once
        self.admission.drain()
        await self._health.enter_graceful_shutdown()  # a watcher that does not read holds this up as long as its call lasts
        await stopping

    async def serve_until(self, stop: asyncio.Event) -> None:
        """Serve until `stop` is set, then drain. Raises CloudError if gRPC ends before."""
        stopping, ended = asyncio.create_task(stop.wait()), asyncio.create_task(self._server.wait_for_termination())
        await asyncio.wait([stopping, ended], return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if not stop.is_set():
            raise CloudError("gRPC ended by itself; start the node again, with --recycle-after for a supervisor that does")
        await self.stop()
        await ended


def _options(limits: Limits, shared_port: bool) -> list[tuple[str, int]]:
    handshake_ms = int(limits.receive_s * 1000)  # for TLS and the first frames of HTTP/2
    return [*_OPTIONS, ("grpc.server_handshake_timeout_ms", handshake_ms), ("grpc.so_reuseport", int(shared_port))]


def _reflect(server: aio.Server) -> None:
    """Let anybody ask for the messages of the services. Only where a person looks around; production has no use for it."""
    from grpc_reflection.v1alpha import reflection  # type: ignore[import-untyped, unused-ignore]

    reflection.enable_server_reflection((SERVICE, HEALTH, reflection.SERVICE_NAME), server)
