"""What `leanto-cloud serve` can be told, in two parts: what belongs to a release, and what only says where things are, or what vouches.

`leanto-cloud release` takes the first part as well. Knows nothing of how it is carried out.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from leanto_cloud.attesters import ATTESTERS


def add_measured(parser: argparse.ArgumentParser) -> None:
    """The options that a release is made for: a node that is started with others is not that release."""
    options = parser.add_argument_group("measured into the release")
    options.add_argument("--engine", choices=("native", "transformers"), default="native", help="what runs the model (default: native)")
    options.add_argument("--reflection", action="store_true", help="let anybody ask for the services' messages (--development does, too)")
    options.add_argument("--suite", type=int, choices=(1, 2), default=1, help="1: AES-256-GCM; 2: ChaCha20-Poly1305 (default: 1)")
    options.add_argument("--tls-client-ca", type=Path, metavar="FILE", help="PEM authority: clients must show a certificate it signed")
    options.add_argument(
        "--token-issuer", type=Path, metavar="FILE", help="take one-time tokens of this issuer (its directory), and only those"
    )
    options.add_argument("--token-origin", metavar="NAME", help="the name of this node that tokens are for")
    options.add_argument("--running", type=_count, default=2, metavar="N", help="generations at once (default: 2)")
    options.add_argument("--waiting", type=_count, default=16, metavar="N", help="requests that may wait in line (default: 16)")
    options.add_argument("--per-tenant", type=_count, metavar="N", help="generations at once for one client certificate (default: all)")
    options.add_argument("--recycle-after", type=_count, metavar="N", help="replace the worker process after N requests")
    options.add_argument("--recycle-every", type=_seconds, metavar="SECONDS", help="replace it after a time")
    options.add_argument("--drain", type=_seconds, default=10.0, metavar="SECONDS", help="time for running answers to end (default: 10)")


def add_local(parser: argparse.ArgumentParser) -> None:
    """The others: what they name is measured by itself (the model), said by the evidence itself (the attester), or no part of what runs."""
    parser.add_argument("--model", type=Path, metavar="PATH", help="model folder (default: the embedded pocket-large; native only)")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1)")
    parser.add_argument("--port", type=_port, default=0, help="port; 0 takes a free one (default: 0)")
    parser.add_argument("--development", action="store_true", help="use the development attester: proves possession of a key, nothing else")
    parser.add_argument("--attester", choices=ATTESTERS, help="the confidential guest or enclave that this node runs in")
    parser.add_argument(
        "--endorsements", type=Path, metavar="FOLDER", help="what its evidence is checked with: ask, ark, crl, collateral, …"
    )
    parser.add_argument(
        "--nvidia-evidence",
        metavar="COMMAND",
        help="what prints NVIDIA's tokens on the GPUs for the nonce behind it (nvattest)",
    )
    parser.add_argument("--tls-certificate", type=Path, metavar="FILE", help="PEM certificate chain; needed beyond this machine")
    parser.add_argument("--tls-key", type=Path, metavar="FILE", help="its PEM private key")
    parser.add_argument("--token-store", type=Path, metavar="FILE", help="the tokens that were spent (SQLite), made if missing")
    parser.add_argument("--ready-file", type=Path, metavar="FILE", help="write address, root and model here as JSON once serving")
    parser.add_argument("--release-proof", type=Path, metavar="FILE", help="what `leanto-cloud release` wrote: shown to every client")


def configuration(options: argparse.Namespace) -> dict[str, object]:
    """What a release says of the measured options: of an issuer its name, of an authority that there is one. Raises ConfigurationError."""
    measured = argparse.ArgumentParser(add_help=False)
    add_measured(measured)
    found: dict[str, object] = {name: getattr(options, name) for name in vars(measured.parse_args([]))}
    if options.token_issuer is not None:
        from leanto_cloud.tokens.redeemer import read_issuer

        found["token_issuer"] = read_issuer(options.token_issuer).issuer
    return found | {"tls_client_ca": options.tls_client_ca is not None}


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError("a port is a number from 0 to 65535")
    return int(text)


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0.0 <= seconds < 1e9:
        raise argparse.ArgumentTypeError("a number of seconds")
    return seconds
