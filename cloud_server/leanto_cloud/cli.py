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

from leanto_cloud import hardening, redaction, serve_options
from leanto_cloud.attesters import make_attester
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
    serve_options.add_local(serve)
    serve_options.add_measured(serve)
    serve.set_defaults(run=None)
    transparency.add(commands)
    token_commands.add(commands)
    relay_commands.add(commands)
    return parser


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
        if options.nvidia_evidence is not None:
            raise ConfigurationError("--nvidia-evidence stands beside sev-snp or tdx, not beside --development")
        from leanto_cloud.development import DevelopmentAttester

        development = DevelopmentAttester()
        return development, {"development_root": development.root_base64}
    return make_attester(options.attester, options.endorsements, options.nvidia_evidence), {"evidence": options.attester}


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
    digest, origin, proof = release(model_id, serve_options.configuration(options), options.release_proof)
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
