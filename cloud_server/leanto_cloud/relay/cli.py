"""The `leanto-relay` command, and `leanto-cloud gateway`: options in, exit code out."""

from __future__ import annotations

import argparse
import asyncio
import base64
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # read by gRPC when it is first imported

from leanto_cloud import hardening, redaction
from leanto_cloud.errors import ConfigurationError
from leanto_cloud.http_server.command import add_listening, serve
from leanto_cloud.private_file import read_private

if TYPE_CHECKING:
    from leanto_wire.ohttp.key_config import GatewayKey


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the relay and return its exit code: 0 for a clean end, 2 for the operator's mistake, 1 for a fault."""
    about = "Carry sealed requests to one gateway, so that it does not learn who asks. Keeps no log."
    parser = argparse.ArgumentParser(prog="leanto-relay", description=about)
    parser.add_argument("--to", required=True, metavar="URL", help="the gateway, the only address that is ever asked")
    parser.add_argument("--to-roots", type=Path, metavar="FILE", help="PEM roots of its certificate (default: the system's)")
    add_listening(parser)
    options = parser.parse_args(arguments)
    try:
        return asyncio.run(_relay(options))
    except KeyboardInterrupt:
        return 0
    except ConfigurationError as error:
        print(f"leanto-relay: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except Exception as error:
        print(f"leanto-relay: the relay failed: {redaction.place(error)}", file=sys.stderr)
        return 1


def add(commands: Any) -> None:
    """Add `leanto-cloud gateway`."""
    about = "Open what a relay brings and ask the node; run it beside the node. Prints its address and the key that clients name."
    gateway = commands.add_parser("gateway", help="take requests from a relay", description=about)
    gateway.add_argument("--node", required=True, metavar="HOST:PORT", help="the node, on this machine unless --node-roots is given")
    gateway.add_argument("--node-roots", type=Path, metavar="FILE", help="PEM roots that must have signed the node's certificate")
    gateway.add_argument("--key", type=Path, required=True, metavar="FILE", help="the gateway's key, mode 0600, made if missing")
    add_listening(gateway)
    gateway.set_defaults(run=lambda options: asyncio.run(_gateway(options)))


async def _relay(options: argparse.Namespace) -> int:
    from leanto_cloud.relay.relay import Relay

    hardening.settle()
    relay = Relay(options.to, options.to_roots)
    try:
        return await serve(relay, options, f"relays to {options.to}")
    finally:
        await relay.close()


async def _gateway(options: argparse.Namespace) -> int:
    from leanto_cloud.relay.channel import open_channel
    from leanto_cloud.relay.gateway import Gateway

    hardening.settle()
    key = read_key(options.key)
    channel = open_channel(options.node, options.node_roots)
    try:
        return await serve(Gateway(key, channel), options, base64.b64encode(key.config.encode()).decode())
    finally:
        await channel.close()


def read_key(path: Path) -> GatewayKey:
    """The key at `path` (32 bytes), made with mode 0600 if there is none. Raises ConfigurationError."""
    from leanto_wire.ohttp.key_config import GatewayKey

    raw = read_private(path, lambda: GatewayKey.generate().private, "the gateway's key")
    try:
        return GatewayKey.of(raw)
    except ValueError:
        raise ConfigurationError(f"{path}: not a gateway's key, which has 32 bytes") from None
