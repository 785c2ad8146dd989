"""`leanto-cloud release`, `leanto-cloud log serve` and `leanto-cloud witness serve`: options in, exit code out."""

from __future__ import annotations

import argparse
import asyncio
import time
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from leanto_cloud import hardening, serve_options
from leanto_cloud.errors import ConfigurationError
from leanto_cloud.http_server import Answering
from leanto_cloud.http_server.command import add_listening, serve
from leanto_cloud.private_file import read_private
from leanto_cloud.whole_file import write_whole
from leanto_wire.log.note import Verifier


def add(commands: Any) -> None:
    """Add the commands."""
    about = (
        "Measure what is installed here and what the node will be told, append the statement to a log, and write the proof that"
        " `leanto-cloud serve` shows. Give the same options to both."
    )
    release = commands.add_parser("release", help="log what this node runs", description=about)
    release.add_argument("--log", type=Path, required=True, metavar="DIR", help="the log's folder, made if it is missing")
    release.add_argument("--origin", required=True, metavar="NAME", help="the log's name, such as example.com/leanto")
    release.add_argument("--key", type=Path, required=True, metavar="FILE", help="its Ed25519 key (PEM), made if it is missing")
    release.add_argument("--model-id", required=True, metavar="NAME@BUILD", help="the model that the node will serve")
    release.add_argument("--witness", action="append", default=[], metavar="URL", help="who shall cosign; may be given several times")
    release.add_argument("--out", type=Path, required=True, metavar="FILE", help="the proof to write")
    serve_options.add_measured(release)
    release.set_defaults(run=_release)
    log = commands.add_parser("log", help="a release log").add_subparsers(required=True, metavar="COMMAND")
    show = log.add_parser("serve", help="serve a log's folder", description="Serve checkpoint and tiles over HTTP until SIGTERM or SIGINT.")
    show.add_argument("folder", type=Path, metavar="DIR", help="the log's folder")
    show.set_defaults(run=_serve_log)
    witness = commands.add_parser("witness", help="a witness of logs").add_subparsers(required=True, metavar="COMMAND")
    watch = witness.add_parser("serve", help="cosign logs that only grow", description="Answer add-checkpoint until SIGTERM or SIGINT.")
    watch.add_argument("--name", required=True, help="the witness's name, such as witness.example")
    watch.add_argument("--key", type=Path, required=True, metavar="FILE", help="its Ed25519 key (PEM), made if it is missing")
    watch.add_argument("--memory", type=Path, required=True, metavar="FILE", help="what it has seen (SQLite), made if it is missing")
    watch.add_argument("--log", action="append", required=True, metavar="KEY", help="a log's key, name+id+base64; may be repeated")
    watch.set_defaults(run=_serve_witness)
    for parser in (show, watch):
        add_listening(parser)


def _release(options: argparse.Namespace) -> int:
    from leanto_cloud.release import statement
    from leanto_cloud.transparency.publish import publish
    from leanto_cloud.transparency.store import LogStore

    try:
        measured = statement(options.model_id, serve_options.configuration(options))
    except OSError as error:
        raise ConfigurationError(f"{error.filename}: cannot be read: {error.strerror}") from None
    log = LogStore(options.log, options.origin, read_key(options.key))
    proof = publish(measured, log, options.witness)
    try:
        write_whole(options.out, proof.SerializeToString(), mode=0o644)
    except OSError as error:
        raise ConfigurationError(f"{options.out}: cannot be written: {error.strerror}") from None
    print(f"entry {proof.index} of {log.verifier}")
    return 0


def _serve_log(options: argparse.Namespace) -> int:
    from leanto_cloud.transparency.serving import LogServing

    if not options.folder.is_dir():
        raise ConfigurationError(f"{options.folder}: no log is there; `leanto-cloud release` makes one")
    return asyncio.run(serve(Answering(LogServing(options.folder).respond), options, str(options.folder)))


def _serve_witness(options: argparse.Namespace) -> int:
    from leanto_cloud.transparency.witness import Witness

    try:
        logs = [Verifier.parse(text) for text in options.log]
    except ValueError as error:
        raise ConfigurationError(f"--log: {error}") from None
    hardening.settle()
    witness = Witness(options.name, read_key(options.key), logs, options.memory, time.time)
    try:
        return asyncio.run(serve(Answering(witness.respond), options, str(witness.verifier)))
    finally:
        witness.close()


def read_key(path: Path) -> Ed25519PrivateKey:
    """The key at `path`, made with mode 0600 if there is none. Raises ConfigurationError."""
    raw = read_private(path, _new_key, "the signing key")
    try:
        found = load_pem_private_key(raw, password=None)
    except (ValueError, TypeError):
        found = None
    if not isinstance(found, Ed25519PrivateKey):
        raise ConfigurationError(f"{path}: not an Ed25519 private key in PEM without password")
    return found


def _new_key() -> bytes:
    return Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
