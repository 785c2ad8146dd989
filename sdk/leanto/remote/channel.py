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
    ("grpc.keepalive_time_ms", 20_000),  # a line that died in mid-answer is found out; a node allows a ping every 5 s
    ("grpc.keepalive_timeout_ms", 10_000),  # for TCP to acknowledge it
    ("grpc.http2.ping_timeout_ms", 10_000),  # for the node to answer it
    ("grpc.keepalive_permit_without_calls", 0),
    ("grpc.http2.max_pings_without_data", 0),  # no limit: an answer may be long in coming, and we have nothing to send meanwhile
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
