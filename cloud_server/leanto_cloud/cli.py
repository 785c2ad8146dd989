"""The `leanto-cloud` command: options in, exit code out. 0 is a clean end, 2 the operator's mistake, 1 a fault."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from leanto_cloud import hardening, redaction
from leanto_cloud.attesters import ATTESTERS, make_attester
from leanto_cloud.errors import CloudError, ConfigurationError
from leanto_cloud.relay import cli as relay_commands
from leanto_cloud.supervisor import Link, Supervisor, hold_port
from leanto_cloud.tokens import commands as token_commands
from leanto_cloud.transparency import commands as transparency
from leanto_cloud.whole_file import write_whole

if TYPE_CHECKING:
    from leanto_cloud.attesters.base import Attester
    from leanto_cloud.engines.base import Engine
    from leanto_cloud.tokens.redeemer import Redeemer


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code. A node takes its process over: the standard streams are its own log's from then on."""
    options = _parser().parse_args(arguments)
    if options.run is not None:
        return _told(sys.stderr, lambda: int(options.run(options)))
    hardening.forget_telltales()
    in_force = tuple(hardening.close_memory())
    own = hardening.take_streams()
    _set_up_logging(own)
    return _told(own, lambda: _serve(options, own, in_force))


def _told(own: TextIO, run: Callable[[], int]) -> int:
    """The exit code of `run`; what went wrong is told in one line, and a fault by its place alone."""
    try:
        return run()
    except KeyboardInterrupt:
        return 0
    except ConfigurationError as error:
        return _complain(own, str(error), 2)
    except CloudError as error:
        return _complain(own, str(error), 1)
    except Exception as error:
        return _complain(own, f"the node failed: {redaction.place(error)}", 1)


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
    serve.add_argument("--tls-client-ca", type=Path, metavar="FILE", help="PEM authority: clients must show a certificate it signed")
    serve.add_argument("--reflection", action="store_true", help="let anybody ask for the services' messages (--development does, too)")
    serve.add_argument("--ready-file", type=Path, metavar="FILE", help="write address, root and model here as JSON once serving")
    serve.add_argument("--suite", type=int, choices=(1, 2), default=1, help="1: AES-256-GCM; 2: ChaCha20-Poly1305 (default: 1)")
    serve.add_argument(
        "--token-issuer", type=Path, metavar="FILE", help="take one-time tokens of this issuer (its directory), and only those"
    )
    serve.add_argument("--token-origin", metavar="NAME", help="the name of this node that tokens are for")
    serve.add_argument("--token-store", type=Path, metavar="FILE", help="the tokens that were spent (SQLite), made if missing")
    serve.add_argument("--running", type=_count, default=2, metavar="N", help="generations at once (default: 2)")
    serve.add_argument("--waiting", type=_count, default=16, metavar="N", help="requests that may wait in line (default: 16)")
    serve.add_argument("--per-tenant", type=_count, metavar="N", help="generations at once for one client certificate (default: all)")
    serve.add_argument("--recycle-after", type=_count, metavar="N", help="replace the worker process after N requests")
    serve.add_argument("--recycle-every", type=_seconds, metavar="SECONDS", help="replace it after a time")
    serve.add_argument("--drain", type=_seconds, default=10.0, metavar="SECONDS", help="time for running answers to end (default: 10)")
    serve.add_argument("--release-proof", type=Path, metavar="FILE", help="what `leanto-cloud release` wrote: shown to every client")
    serve.add_argument("--configuration", type=Path, metavar="FILE", help="the configuration that was released with it")
    serve.set_defaults(run=None)
    transparency.add(commands)
    token_commands.add(commands)
    relay_commands.add(commands)
    return parser


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


def _serve(options: argparse.Namespace, own: TextIO, in_force: tuple[str, ...]) -> int:
    attester, attested = _attester(options)  # before any worker, so that all of them have one root
    if hardening.swaps():
        redaction.log.warning("this machine swaps, and memory may reach its disk; turn swap off or encrypt it")

    def serve(link: Link | None = None) -> int:
        return asyncio.run(_serve_here(options, attester, attested, own, in_force, link))

    if options.recycle_after is None and options.recycle_every is None:
        return serve()
    with hold_port(options.host, options.port) as held, _ReadyFile(options.ready_file) as ready:
        options.port = held.getsockname()[1]
        return Supervisor(lambda link: _told(own, lambda: serve(link)), ready.write, own=own, drain_s=options.drain).run()


def _attester(options: argparse.Namespace) -> tuple[Attester, dict[str, object]]:
    """What makes the node's evidence, and what the ready file says of it. Development evidence is never a fallback."""
    if options.development is (options.attester is not None):
        raise ConfigurationError("no attester, or two: give --attester, or --development to try the node without hardware")
    if options.development:
        from leanto_cloud.development import DevelopmentAttester

        development = DevelopmentAttester()
        return development, {"development_root": development.root_base64}
    return make_attester(options.attester, options.endorsements), {"evidence": options.attester}


async def _serve_here(
    options: argparse.Namespace,
    attester: Attester,
    attested: dict[str, object],
    own: TextIO,
    in_force: tuple[str, ...],
    link: Link | None = None,
) -> int:
    """Load the model and serve it in this process, a supervisor's worker where there is a `link`."""
    from leanto_cloud.identity import Identity
    from leanto_cloud.release import release
    from leanto_cloud.server import Limits, Server
    from leanto_cloud.tls import TlsFiles, server_credentials

    redaction.guard_loop(asyncio.get_running_loop())
    credentials = server_credentials(TlsFiles(options.tls_certificate, options.tls_key, options.tls_client_ca), options.host)
    redeemer = _redeemer(options)
    engine = _load_engine(options)
    model_id = engine.capabilities.model_id
    digest, origin, proof = release(model_id, options.configuration, options.release_proof)
    identity = Identity(attester, release_digest=digest, model_id=model_id, log_origin=origin, release_proof=proof, suite=options.suite)
    limits = Limits(options.running, options.waiting, options.per_tenant, options.drain, worn_after=options.recycle_after)
    server = Server(
        engine,
        identity,
        host=options.host,
        port=options.port,
        limits=limits,
        redeemer=redeemer,
        reflection=options.reflection or options.development,
        shared_port=link is not None,
    )
    try:
        await server.start(credentials)
        stop = _stop_on_signals()
        described = {"address": server.address, **attested, "model_id": model_id, "pid": os.getpid()}
        redaction.log.info("serving %s on %s (%s evidence)", model_id, server.address, options.attester or "development")
        with _ReadyFile(None if link else options.ready_file) as ready:
            ready.write(described)
            in_force += tuple(hardening.forbid_writing(own))
            redaction.log.info("in force: %s", ", ".join(in_force))
            telling = None
            if link is not None:
                asyncio.get_running_loop().add_reader(link.socket, stop.set)  # a worker ends with its supervisor
                telling = asyncio.create_task(_tell_when_worn(link, server.admission.worn, options.recycle_every))
                link.ready(described)
            await server.serve_until(stop)
            if telling is not None:
                telling.cancel()
    finally:
        engine.close()
        if redeemer is not None:
            redeemer.close()
    redaction.log.info("drained")
    return 0


async def _tell_when_worn(link: Link, worn: asyncio.Event, recycle_every_s: float | None) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(recycle_every_s):
            await worn.wait()
    link.worn()


def _load_engine(options: argparse.Namespace) -> Engine:
    if options.engine == "native":
        from leanto_cloud.engines.native import NativeEngine

        return NativeEngine.load_model(options.model, capacity=options.running)
    if options.model is None:
        raise ConfigurationError("the transformers engine needs --model PATH")
    from leanto_cloud.engines.transformers import TransformersEngine

    return TransformersEngine.load_model(options.model, capacity=options.running)


def _redeemer(options: argparse.Namespace) -> Redeemer | None:
    """What takes tokens, where the three options are given. Raises ConfigurationError."""
    named = (options.token_issuer, options.token_origin, options.token_store)
    if named == (None, None, None):
        return None
    if None in named:
        raise ConfigurationError("--token-issuer, --token-origin and --token-store go together")
    from leanto_cloud.tokens.redeemer import open_redeemer

    return open_redeemer(*named)


def _stop_on_signals() -> asyncio.Event:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return stop


class _ReadyFile:
    """A file that is there, whole, from `write` until the node has ended."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._pid = os.getpid()

    def __enter__(self) -> _ReadyFile:
        return self

    def write(self, content: dict[str, object]) -> None:
        """Say how the node is reached. Raises ConfigurationError."""
        if self._path is None:
            return
        try:
            write_whole(self._path, json.dumps({**content, "pid": self._pid}).encode())
        except OSError as error:
            raise ConfigurationError(f"cannot write the ready file {self._path}: {error.strerror}") from None

    def __exit__(self, *_: object) -> None:
        if self._path is not None:
            self._path.unlink(missing_ok=True)


def _set_up_logging(own: TextIO) -> None:
    import logging

    redaction.install()
    handler = logging.StreamHandler(own)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    redaction.log.setLevel(logging.INFO)


def _complain(own: TextIO, message: str, code: int) -> int:
    print(f"leanto-cloud: {' '.join(message.split())}", file=own)
    return code
