"""Attacks on a client by whoever gives it an address, stands in its way or answers in the node's name. Nothing may leave it unsealed."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message
from grpc import aio
from grpc_health.v1.health_pb2 import HealthCheckResponse

from certificates import Authority
from leanto.errors import CloudUnavailable, EvidenceRefused, LeantoError, ProtocolFault, TargetError
from leanto.remote import RemoteTarget, Tls
from leanto.remote.target import dial_target
from leanto_cloud.development import DevelopmentAttester
from leanto_cloud.identity import Identity
from leanto_cloud.tls import TlsFiles, server_credentials
from leanto_wire import seal
from leanto_wire.development import sign_report
from leanto_wire.report_data import report_data
from leanto_wire.v1.inference_pb2 import GenerateResponse, GenerateStreamChunk, OutputLogProbs
from leanto_wire.v1.private_compute_pb2 import EvidenceResponse, KeyConfig, SealedChunk, SealedRequest
from nodes import MODEL_ID, RELEASE, REQUEST, EchoEngine, fault_of, lying_node, open_leg, running_node

ROOT = DevelopmentAttester().root_base64

ELSEWHERE = {
    "a name that begins as loopback": "127.0.0.1.evil.example:80",
    "a name that begins as localhost": "localhost.evil.example:80",
    "a name that a resolver may send here": "loopback.evil.example:80",
    "localhost with a dot": "localhost.:80",
    "localhost in capitals": "LOCALHOST:80",
    "a short form of loopback": "127.1:80",
    "loopback as one number": "2130706433:80",
    "loopback in hexadecimal": "0x7f000001:80",
    "loopback in octal": "0177.0.0.1:80",
    "every address": "0.0.0.0:80",
    "every address of IPv6": "[::]:80",
    "an IPv4 address in IPv6": "[::ffff:192.0.2.1]:80",
    "a NAT64 address": "[64:ff9b::c000:201]:80",
    "a link-local address": "[fe80::1]:80",
    "a private address": "10.0.0.1:80",
}
NO_ADDRESS = {
    "user information": "127.0.0.1@evil.example:80",
    "a port in user information": "127.0.0.1:80@evil.example:80",
    "a fragment": "evil.example#127.0.0.1:80",
    "a path": "127.0.0.1/evil.example:80",
    "a query": "evil.example?127.0.0.1:80",
    "a percent escape": "127.0.0.1%2eevil.example:80",
    "a zone": "[fe80::1%eth0]:80",
    "a unix socket": "unix:/tmp/socket:80",
    "an abstract unix socket": "unix-abstract:socket:80",
    "xds": "xds:///node:80",
    "a dns authority": "dns://192.0.2.53/node.example:80",
    "an ipv4 scheme": "ipv4:192.0.2.1:80",
    "an ipv4 list": "ipv4:127.0.0.1:80,192.0.2.1:80",
    "vsock": "vsock:3:80",
    "a scheme of the web": "https://node.example:80",
    "IPv6 without brackets": "::1:80",
    "a port in other digits": "127.0.0.1:٨٠",
    "a letter that looks like another": "lоcalhost:80",
    "a line break": "127.0.0.1:80\n",
    "a zero byte": "127.0.0.1\0.evil.example:80",
    "a space": "127.0.0.1 :80",
}


@pytest.mark.parametrize("name", ELSEWHERE)
def test_plaintext_is_never_dialled_to(name: str) -> None:
    with pytest.raises(TargetError, match="plaintext only goes to a loopback address"):
        dial_target(RemoteTarget(ELSEWHERE[name], ROOT))


@pytest.mark.parametrize("tls", [None, Tls()], ids=["plaintext", "TLS"])
@pytest.mark.parametrize("name", NO_ADDRESS)
def test_an_address_is_host_and_port_and_not(name: str, tls: Tls | None) -> None:
    with pytest.raises(TargetError, match="not host:port"):
        dial_target(RemoteTarget(NO_ADDRESS[name], ROOT, tls))


@contextmanager
def trap() -> Iterator[tuple[int, list[bytes]]]:
    """A listener, and what was sent to it."""
    heard: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def listen() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    heard.append(connection.recv(4096))

        thread = threading.Thread(target=listen)
        thread.start()
        try:
            yield listener.getsockname()[1], heard
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def test_no_proxy_is_taken_from_the_environment() -> None:
    code = (
        "import asyncio, sys\nsys.path.insert(0, sys.argv[1])\nfrom nodes import *\n"
        "async def main():\n    async with running_node() as node, open_leg(node.target) as leg:\n"
        "        print(text_of(await collect(leg, RemoteRequest('a', max_tokens=1, timeout_s=20))))\nasyncio.run(main())"
    )
    with trap() as (port, heard):
        names = ("http_proxy", "https_proxy", "grpc_proxy", "all_proxy")
        proxies = {spelled: f"http://127.0.0.1:{port}" for name in names for spelled in (name, name.upper())}
        done = subprocess.run(
            [sys.executable, "-c", code, str(Path(__file__).parents[1])],
            env=os.environ | proxies | {"no_proxy": "", "NO_PROXY": ""},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
    assert done.stdout == " a\n", done.stderr
    assert heard == []


def test_a_client_with_tls_does_not_fall_back_to_plaintext(tmp_path: Path) -> None:
    engine = EchoEngine()

    async def run() -> LeantoError:
        async with running_node(engine) as node:
            return await fault_of(replace(node.target, tls=Tls(Authority(tmp_path).file)))

    assert isinstance(asyncio.run(run()), CloudUnavailable)
    assert engine.requests == []


def test_a_client_with_tls_says_nothing_readable_to_a_listener(tmp_path: Path) -> None:
    with trap() as (port, heard):
        asyncio.run(fault_of(RemoteTarget(f"127.0.0.1:{port}", ROOT, Tls(Authority(tmp_path).file))))
    assert heard
    assert all(said.startswith(b"\x16\x03") for said in heard)  # TLS records of a handshake


def test_a_node_in_the_middle_with_a_certificate_of_another_authority_is_refused(tmp_path: Path) -> None:
    ours, theirs = Authority(tmp_path, "ours"), Authority(tmp_path, "theirs")

    async def run() -> LeantoError:
        certificate, key = theirs.issue("middle", "127.0.0.1")
        async with running_node(credentials=server_credentials(TlsFiles(certificate, key), "127.0.0.1")) as node:
            return await fault_of(replace(node.target, tls=Tls(ours.file)))

    assert isinstance(asyncio.run(run()), CloudUnavailable)


@asynccontextmanager
async def foreign_node(evidence: Callable[[bytes], bytes], answers: list[bytes]) -> AsyncIterator[RemoteTarget]:
    """A server that answers with whatever bytes; its evidence is honest where `evidence` leaves it so."""
    attester = DevelopmentAttester()
    identity = Identity(attester, release_digest=RELEASE, model_id=MODEL_ID)

    async def get_evidence(request: bytes, context: Any) -> bytes:
        return evidence(identity.evidence(request[2:]).SerializeToString())

    async def generate(request: bytes, context: Any) -> AsyncIterator[bytes]:
        for answer in answers:
            yield answer

    handlers = {
        "GetEvidence": grpc.unary_unary_rpc_method_handler(get_evidence),
        "Generate": grpc.unary_stream_rpc_method_handler(generate),
    }
    server = aio.server()
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("leanto.v1.PrivateCompute", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield RemoteTarget(f"127.0.0.1:{port}", attester.root_base64)
    finally:
        await server.stop(None)


FOREIGN: dict[str, Message] = {
    "health": HealthCheckResponse(status=HealthCheckResponse.SERVING),
    "evidence": EvidenceResponse(key_config=b"x", nonce=bytes(32)),
    "the request back": SealedRequest(suite=1, encapsulation=bytes(1168), ciphertext=bytes(272)),
    "an unsealed answer": GenerateResponse(
        chunk=GenerateStreamChunk(token_ids=[1], text="x", output_logprobs=OutputLogProbs(token_logprobs=[-1.0]))
    ),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_an_answer_made_of_another_message_is_refused(name: str) -> None:
    async def run() -> LeantoError:
        async with foreign_node(lambda honest: honest, [FOREIGN[name].SerializeToString()]) as target:
            return await fault_of(target)

    assert isinstance(asyncio.run(run()), ProtocolFault | CloudUnavailable)


@pytest.mark.parametrize("name", FOREIGN)
def test_evidence_made_of_another_message_is_refused(name: str) -> None:
    async def run() -> LeantoError:
        async with foreign_node(lambda _: FOREIGN[name].SerializeToString(), []) as target:
            return await fault_of(target)

    assert isinstance(asyncio.run(run()), EvidenceRefused | CloudUnavailable)


@pytest.mark.parametrize(("protocol", "suite"), [(0, 1), (1, 0), (2, 1), (1, 2), (0, 0)])
def test_evidence_of_another_protocol_or_suite_is_refused_though_rightly_signed(protocol: int, suite: int) -> None:
    attester = DevelopmentAttester()

    def downgraded(honest: EvidenceResponse) -> EvidenceResponse:
        config = KeyConfig.FromString(honest.key_config)
        config.protocol, config.suite = protocol, suite
        honest.key_config = config.SerializeToString()
        honest.report = sign_report(report_data(honest.type, honest.key_config, honest.nonce), attester._root)
        return honest

    async def run() -> LeantoError:
        async with lying_node(lie_about_evidence=downgraded) as target:
            return await fault_of(replace(target, development_root=attester.root_base64))

    fault = asyncio.run(run())
    assert isinstance(fault, EvidenceRefused)
    assert fault.claim == "key"


def token() -> bytes:
    logprobs = OutputLogProbs(token_logprobs=[-1.0])
    return GenerateResponse(chunk=GenerateStreamChunk(token_ids=[1], text="x", output_logprobs=logprobs)).SerializeToString()


def test_a_key_that_changes_in_mid_stream_is_refused() -> None:
    async def answer(identity: Identity, request: SealedRequest) -> AsyncIterator[SealedChunk]:
        _, sealer = identity.open(request)
        yield SealedChunk(ciphertext=sealer.seal(token(), final=False))
        other = seal.Sealer(bytes(32), request.encapsulation, "response", request.suite, sealer.padding)
        other.seal(token(), final=False)
        yield SealedChunk(ciphertext=other.seal(token(), final=False))

    async def run() -> tuple[int, LeantoError]:
        async with lying_node(answer=answer) as target, open_leg(target) as leg:
            call = leg.generate(REQUEST)
            await anext(call)
            with pytest.raises(LeantoError) as caught:
                await anext(call)
            return 1, caught.value

    _, fault = asyncio.run(run())
    assert isinstance(fault, ProtocolFault)


def test_an_answer_recorded_for_one_request_is_refused_for_the_next() -> None:
    recorded: list[SealedChunk] = []

    async def answer(identity: Identity, request: SealedRequest) -> AsyncIterator[SealedChunk]:
        if not recorded:
            _, sealer = identity.open(request)
            recorded.append(SealedChunk(ciphertext=sealer.seal(token(), final=False)))
        for chunk in recorded:
            yield chunk

    async def run() -> LeantoError:
        async with lying_node(answer=answer) as target, open_leg(target) as leg:
            first = leg.generate(REQUEST)
            assert (await anext(first)).text == "x"
            await first.aclose()
            with pytest.raises(LeantoError) as caught:
                await anext(leg.generate(REQUEST))
            return caught.value

    assert isinstance(asyncio.run(run()), ProtocolFault)


def test_headers_from_a_server_are_bounded() -> None:
    async def bomb(request: bytes, context: Any) -> bytes:
        await context.send_initial_metadata([("bomb", "x" * 60_000)])
        return b""

    async def run() -> LeantoError:
        server = aio.server()
        handlers = {"GetEvidence": grpc.unary_unary_rpc_method_handler(bomb)}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("leanto.v1.PrivateCompute", handlers),))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        try:
            return await fault_of(RemoteTarget(f"127.0.0.1:{port}", ROOT))
        finally:
            await server.stop(None)

    assert isinstance(asyncio.run(run()), CloudUnavailable)
