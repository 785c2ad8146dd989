"""A gRPC channel to a node: its limits, its TLS, and no way around by proxy, resolver or compression."""

from __future__ import annotations

from pathlib import Path

import grpc
from grpc import aio

from leanto.errors import TargetError
from leanto.remote.target import Tls
from leanto_wire.seal import MAX_MESSAGE_BYTES

OPTIONS = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES + 8192),
    ("grpc.max_metadata_size", 8192),
    ("grpc.enable_retries", 0),  # a retry is sealed again, so gRPC must not repeat one
    ("grpc.enable_http_proxy", 0),  # no detour by environment variable
    ("grpc.service_config_disable_resolution", 1),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    ("grpc.compression_enabled_algorithms_bitset", 1),  # identity alone
)


def open_channel(dial: str, tls: Tls | None) -> aio.Channel:
    """A channel to the address `dial`, plaintext without `tls`. Raises TargetError for TLS files that cannot be used."""
    if tls is None:
        return aio.insecure_channel(dial, options=OPTIONS)
    named = [] if tls.server_name is None else [("grpc.ssl_target_name_override", tls.server_name)]
    return aio.secure_channel(dial, _credentials(tls), options=[*OPTIONS, *named])


def _credentials(tls: Tls) -> grpc.ChannelCredentials:
    if (tls.client_certificate is None) is not (tls.client_key is None):
        raise TargetError("a client certificate and its key go together; give both or neither")
    files = (tls.root_certificates, tls.client_key, tls.client_certificate)
    try:
        roots, key, certificate = (None if file is None else Path(file).read_bytes() for file in files)
    except OSError as error:
        raise TargetError(f"cannot read the TLS file {error.filename}: {error.strerror}") from None
    return grpc.ssl_channel_credentials(roots, key, certificate)
