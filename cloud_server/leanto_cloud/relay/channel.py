"""The gateway's gRPC channel to its node: plaintext on this machine, TLS elsewhere. Knows nothing of what goes over it."""

from __future__ import annotations

import ipaddress
from pathlib import Path

import grpc
from grpc import aio

from leanto_cloud.errors import ConfigurationError
from leanto_wire.ohttp.calls import MAX_FRAME_BYTES

_OPTIONS = (
    ("grpc.max_receive_message_length", MAX_FRAME_BYTES),
    ("grpc.max_metadata_size", 8192),
    ("grpc.enable_retries", 0),
    ("grpc.enable_http_proxy", 0),
    ("grpc.service_config_disable_resolution", 1),
    ("grpc.compression_enabled_algorithms_bitset", 1),
)


def open_channel(node: str, roots: Path | None = None) -> aio.Channel:
    """A channel to `node` (host:port). Raises ConfigurationError."""
    host, _, port = node.rpartition(":")
    host = host.strip("[]")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ConfigurationError(f"--node {node!r} is not host:port")
    if roots is not None:
        try:
            return aio.secure_channel(f"dns:///{node}", grpc.ssl_channel_credentials(roots.read_bytes()), options=_OPTIONS)
        except OSError as error:
            raise ConfigurationError(f"{roots}: cannot be read: {error.strerror}") from None
    try:
        address = ipaddress.ip_address("127.0.0.1" if host == "localhost" else host)
    except ValueError:
        address = None
    if address is None or not address.is_loopback:
        raise ConfigurationError(f"--node {node}: plaintext only goes to a loopback address; give --node-roots")
    dial = f"ipv6:[{address}]:{port}" if address.version == 6 else f"ipv4:{address}:{port}"
    return aio.insecure_channel(dial, options=_OPTIONS)
