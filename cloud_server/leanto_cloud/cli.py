"""The `leanto-cloud` command: options in, exit code out. 0 is a clean end, 2 the operator's mistake, 1 a fault."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # read by gRPC when it is first imported
os.environ.pop("GRPC_TRACE", None)  # its traces would hold message bytes

from leanto_cloud import redaction
from leanto_cloud.attesters import ATTESTERS, make_attester
from leanto_cloud.errors import CloudError, ConfigurationError

if TYPE_CHECKING:
    import grpc

    from leanto_cloud.attesters.base import Attester
    from leanto_cloud.engines.base import Engine

LOOPBACK = ("127.0.0.1", "::1", "localhost")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    options = _parser().parse_args(arguments)
    _set_up_logging()
    try:
        return asyncio.run(_serve(options))
    except KeyboardInterrupt:
        return 0
    except ConfigurationError as error:
        return _complain(str(error), 2)
    except CloudError as error:
        return _complain(str(error), 1)
    except Exception as error:
        return _complain(f"the node failed: {redaction.place(error)}", 1)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="leanto-cloud", description="A private compute node: sealed requests in, sealed answers out.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    serve = commands.add_parser("serve", help="serve a model", description="Serve a model until SIGTERM or SIGINT.")
    serve.add_argument("--engine", choices=("native", "transformers"), default="native", help="what runs the model (default: native)")
    serve.add_argument("--model", type=Path, metavar="PATH", help="model folder (default: the embedded pocket-large; native only)")
    serve.add_argument("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1)")
    serve.add_argument("--port", type=_port, default=0, help="port; 0 takes a free one (default: 0)")
    serve.add_argument("--development", action="store_true", help="use the development attester: proves possession of a key, nothing else")
    serve.add_argument("--attester", choices=ATTESTERS, help="the confidential guest or enclave that this node runs in")
    serve.add_argument(
        "--endorsements", type=Path, metavar="FOLDER", help="what its evidence is checked with: ask, ark, crl, collateral, …"
    )
    serve.add_argument("--tls-certificate", type=Path, metavar="FILE", help="PEM certificate chain; needed beyond this machine")
    serve.add_argument("--tls-key", type=Path, metavar="FILE", help="its PEM private key")
    serve.add_argument("--ready-file", type=Path, metavar="FILE", help="write address, root and model here as JSON once serving")
    serve.add_argument("--suite", type=int, choices=(1, 2), default=1, help="1: AES-256-GCM; 2: ChaCha20-Poly1305 (default: 1)")
    serve.add_argument("--running", type=_count, default=2, metavar="N", help="generations at once (default: 2)")
    serve.add_argument("--waiting", type=_count, default=16, metavar="N", help="requests that may wait in line (default: 16)")
    serve.add_argument("--drain", type=float, default=10.0, metavar="SECONDS", help="time for running answers to end (default: 10)")
    return parser


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError("a port is a number from 0 to 65535")
    return int(text)


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return int(text)


async def _serve(options: argparse.Namespace) -> int:
    from leanto_cloud.identity import Identity
    from leanto_cloud.release import release_digest
    from leanto_cloud.server import Limits, Server

    redaction.guard_loop(asyncio.get_running_loop())
    attester, attested = _attester(options)
    engine = _load_engine(options)
    model_id = engine.capabilities.model_id
    identity = Identity(attester, release_digest=release_digest(model_id), model_id=model_id, suite=options.suite)
    limits = Limits(running=options.running, waiting=options.waiting, drain_s=options.drain)
    server = Server(engine, identity, host=options.host, port=options.port, limits=limits)
    try:
        await server.start(_credentials(options))
        stop = _stop_on_signals()
        ready = {"address": server.address, **attested, "model_id": model_id, "pid": os.getpid()}
        redaction.log.info("serving %s on %s (%s evidence)", model_id, server.address, options.attester or "development")
        with _ReadyFile(options.ready_file, ready):
            await server.serve_until(stop)
    finally:
        engine.close()
    redaction.log.info("drained")
    return 0


def _attester(options: argparse.Namespace) -> tuple[Attester, dict[str, object]]:
    """What makes the node's evidence, and what the ready file says of it. Development evidence is never a fallback."""
    if options.development is (options.attester is not None):
        raise ConfigurationError("no attester, or two: give --attester, or --development to try the node without hardware")
    if options.development:
        from leanto_cloud.development import DevelopmentAttester

        development = DevelopmentAttester()
        return development, {"development_root": development.root_base64}
    return make_attester(options.attester, options.endorsements), {"evidence": options.attester}


def _load_engine(options: argparse.Namespace) -> Engine:
    if options.engine == "native":
        from leanto_cloud.engines.native import NativeEngine

        return NativeEngine.load_model(options.model, capacity=options.running)
    if options.model is None:
        raise ConfigurationError("the transformers engine needs --model PATH")
    from leanto_cloud.engines.transformers import TransformersEngine

    return TransformersEngine.load_model(options.model, capacity=options.running)


def _credentials(options: argparse.Namespace) -> grpc.ServerCredentials | None:
    """TLS as asked for. Raises ConfigurationError for half of it, and for plaintext beyond this machine."""
    import grpc

    certificate, key = options.tls_certificate, options.tls_key
    if certificate is None and key is None:
        if options.host not in LOOPBACK:
            raise ConfigurationError(f"--host {options.host} is beyond this machine: give --tls-certificate and --tls-key")
        return None
    if certificate is None or key is None:
        raise ConfigurationError("--tls-certificate and --tls-key go together")
    try:
        return grpc.ssl_server_credentials([(key.read_bytes(), certificate.read_bytes())])
    except OSError as error:
        raise ConfigurationError(f"cannot read {error.filename}: {error.strerror}") from None


def _stop_on_signals() -> asyncio.Event:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return stop


class _ReadyFile:
    """A file that exists, whole, exactly while the node serves."""

    def __init__(self, path: Path | None, content: dict[str, object]) -> None:
        self._path = path
        self._content = content

    def __enter__(self) -> None:
        if self._path is None:
            return
        try:
            with tempfile.NamedTemporaryFile("w", dir=self._path.parent, prefix=".ready-", delete=False) as file:
                json.dump(self._content, file)
            os.replace(file.name, self._path)
        except OSError as error:
            raise ConfigurationError(f"cannot write the ready file {self._path}: {error.strerror}") from None

    def __exit__(self, *_: object) -> None:
        if self._path is not None:
            self._path.unlink(missing_ok=True)


def _set_up_logging() -> None:
    import logging

    redaction.install()
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    redaction.log.setLevel(logging.INFO)


def _complain(message: str, code: int) -> int:
    print(f"leanto-cloud: {' '.join(message.split())}", file=sys.stderr)
    return code
