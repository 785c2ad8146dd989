"""PEM files as gRPC server credentials. Knows nothing of what is served."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import grpc

from leanto_cloud.errors import ConfigurationError

LOOPBACK = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """The node's certificate chain and key, and the authority whose certificates its clients must show (None: they need none)."""

    certificate: Path | None = None
    key: Path | None = None
    client_ca: Path | None = None


def server_credentials(files: TlsFiles, host: str) -> grpc.ServerCredentials | None:
    """TLS as asked for; None is plaintext. Raises ConfigurationError for half of it, and for plaintext beyond this machine."""
    if files.certificate is None and files.key is None:
        if files.client_ca is not None:
            raise ConfigurationError("--tls-client-ca needs --tls-certificate and --tls-key: plaintext knows no clients")
        if host not in LOOPBACK:
            raise ConfigurationError(f"--host {host} is beyond this machine: give --tls-certificate and --tls-key")
        return None
    if files.certificate is None or files.key is None:
        raise ConfigurationError("--tls-certificate and --tls-key go together")
    try:
        pair = (files.key.read_bytes(), files.certificate.read_bytes())
        client_ca = None if files.client_ca is None else files.client_ca.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"cannot read {error.filename}: {error.strerror}") from None
    return grpc.ssl_server_credentials([pair], client_ca, require_client_auth=client_ca is not None)
