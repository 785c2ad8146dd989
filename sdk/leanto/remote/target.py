"""Where a node is and what it must prove: values, and the rules for addresses. Imports no gRPC."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from leanto.errors import TargetError

if TYPE_CHECKING:
    from leanto_wire.policies import HardwarePolicy

PaddingLevel = Literal["blocks", "buckets", "constant"]

_HOST = r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<host>[A-Za-z0-9][A-Za-z0-9._-]*))"
_ADDRESS = re.compile(_HOST + r":(?P<port>[0-9]{1,5})")
_URL = re.compile(rf"(?P<scheme>https?)://{_HOST}(?::(?P<port>[0-9]{{1,5}}))?(?P<path>/[!-~]*)?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Tls:
    """TLS to the node. `root_certificates` is a PEM file (None: gRPC's own roots); `server_name` replaces the one in the address.

    `client_certificate` and `client_key` (PEM files) show a node with mutual TLS who asks.
    """

    root_certificates: str | Path | None = None
    server_name: str | None = None
    client_certificate: str | Path | None = None
    client_key: str | Path | None = None


@dataclass(frozen=True, slots=True)
class ReleaseLog:
    """A log in which the node's release must stand. Keys are written name+id+base64; `quorum` of the `witnesses` must have cosigned.

    `store` is the file that keeps the last checkpoint; `tiles` the log's address, needed once it has grown.
    """

    key: str
    store: str | Path
    witnesses: tuple[str, ...] = ()
    quorum: int = 0
    tiles: str | None = None


@dataclass(frozen=True, slots=True)
class TokenSource:
    """Where one-time tokens come from: the issuer's URL, and `name` (None: its host) and `origin` as the node's challenge has them.

    The account's key is in the environment variable `account_env`; tokens are kept in the file `store`, and fetched `batch` at a time.
    `keys` (SHA-256, hex) are the issuer's keys that are taken; empty takes those that it lists.
    """

    issuer: str
    origin: str
    store: str | Path
    account_env: str = "LEANTO_TOKEN_ACCOUNT"
    batch: int = 32
    name: str | None = None
    keys: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Relay:
    """A relay's URL, and the key of the gateway behind it (base64), which `leanto-cloud gateway` prints."""

    url: str
    gateway_key: str


@dataclass(frozen=True, slots=True)
class RemoteTarget:
    """Where a node is and what it must prove.

    `address` is host:port. `development_root` (base64, from the node's ready file) names the one root whose development
    evidence is accepted; `evidence` (a policy of leanto_wire.policies) says what its hardware must prove instead. One of the two.
    Without `tls` only loopback addresses are used. `padding` "constant" paces answers: a frame every `cadence_ms`, and a multiple of
    `cadence_frames` of them. `suites` are the numbers that the node may serve. With `hedge_after_s`, an answer that has not begun by
    then is asked for once more over another connection, and the first to begin is taken: for nodes behind one balanced address.
    """

    address: str
    development_root: str | None = None
    tls: Tls | None = None
    padding: PaddingLevel = "blocks"
    cadence_ms: int = 50
    cadence_frames: int = 32
    suites: tuple[int, ...] = (1,)
    log: ReleaseLog | None = None
    tokens: TokenSource | None = None
    relay: Relay | None = None  # the address is then a name alone: nobody dials it, and `tls` is for the relay
    hedge_after_s: float | None = None
    evidence: HardwarePolicy | None = None


def dial_target(target: RemoteTarget) -> str:
    """The gRPC name of `target`, or its relay's URL. Raises TargetError for another form, and for plaintext beyond this machine."""
    if target.tokens is not None:
        checked_url(target.tokens.issuer, "issuer")
    if target.log is not None and target.log.tiles is not None:
        checked_url(target.log.tiles, "release log")
    parts = _ADDRESS.fullmatch(target.address)
    if parts is None or not 0 < int(parts["port"]) < 65536:
        raise TargetError(f"the cloud address {target.address!r} is not host:port")
    host, port = parts["v6"] or parts["host"], parts["port"]
    if target.relay is not None:
        return relay_url(target.relay)
    name = "127.0.0.1" if host == "localhost" else host  # no resolver decides what this machine is
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        if target.tls is None:
            raise TargetError(f"{target.address}: plaintext only goes to a loopback address; give TLS for another machine") from None
        return f"dns:///{host}:{port}"
    if target.tls is None and not address.is_loopback:
        raise TargetError(f"{target.address}: plaintext only goes to a loopback address; give TLS for another machine")
    return f"ipv6:[{address}]:{port}" if address.version == 6 else f"ipv4:{address}:{port}"


def relay_url(relay: Relay) -> str:
    """The URL to post to. Raises TargetError for other than https, or http on this machine."""
    return checked_url(relay.url, "relay")


def checked_url(url: str, what: str) -> str:
    """The URL to ask where `url` was given, put together again from its parts: no resolver decides what `localhost` is.

    `what` names it in the TargetError for other than https, or http on this machine, and for user information, a query or a fragment.
    """
    parts = _URL.fullmatch(url)
    if parts is None or {"?", "#"} & set(url) or not _exists(parts["v6"], parts["port"]):
        raise TargetError(f"the {what} {url!r} is not https://HOST[:PORT]")
    scheme, host = parts["scheme"].lower(), (parts["v6"] or parts["host"]).lower()
    if scheme == "http" and not is_loopback(host):
        raise TargetError(f"the {what} {url!r}: plaintext only goes to a loopback address; use https")
    name = "127.0.0.1" if host == "localhost" else f"[{host}]" if parts["v6"] else host
    return f"{scheme}://{name}" + (f":{parts['port']}" if parts["port"] else "") + (parts["path"] or "")


def _exists(v6: str | None, port: str | None) -> bool:
    try:
        if v6 is not None:
            ipaddress.IPv6Address(v6)
    except ValueError:
        return False
    return port is None or 0 < int(port) < 65536


def is_loopback(host: str) -> bool:
    """Whether `host` is this machine, by its name alone."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
