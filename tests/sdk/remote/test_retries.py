"""Retries: which failures are tried again at once, always sealed anew, and never after the first chunk."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from grpc import aio

from leanto.errors import CloudUnavailable, LeantoError, TargetError
from leanto.remote import RemoteRequest, RemoteTarget, Tls
from leanto_cloud.development import DevelopmentAttester
from leanto_cloud.identity import Identity
from leanto_wire.v1 import private_compute_pb2_grpc as rpc
from leanto_wire.v1.inference_pb2 import GenerateComplete, GenerateResponse, GenerateStreamChunk, OutputLogProbs
from leanto_wire.v1.private_compute_pb2 import EvidenceRequest, EvidenceResponse, SealedChunk, SealedRequest
from nodes import MODEL_ID, RELEASE, open_leg

REQUEST = RemoteRequest("red green", max_tokens=2, timeout_s=20)
TOKEN = GenerateResponse(chunk=GenerateStreamChunk(token_ids=[1], text="x", output_logprobs=OutputLogProbs(token_logprobs=[-1.0])))
COMPLETE = GenerateResponse(complete=GenerateComplete(finish_reason="stop", model_id=MODEL_ID))


class FailingNode(rpc.PrivateComputeServicer):
    """Fails its first calls with the codes given, before a chunk or after `first`; then answers."""

    def __init__(self, codes: list[grpc.StatusCode], *, first: bytes | None = None, final: bool = False) -> None:
        self.attester = DevelopmentAttester()
        self.requests: list[SealedRequest] = []
        self._identity = Identity(self.attester, release_digest=RELEASE, model_id=MODEL_ID)
        self._codes = codes
        self._first = first
        self._final = final

    async def GetEvidence(self, request: EvidenceRequest, context: Any) -> EvidenceResponse:
        return self._identity.evidence(request.nonce)

    async def Generate(self, request: SealedRequest, context: Any) -> AsyncIterator[SealedChunk]:
        self.requests.append(request)
        _, sealer = self._identity.open(request)
        fails = len(self.requests) <= len(self._codes)
        if not fails:
            yield SealedChunk(ciphertext=sealer.seal(TOKEN.SerializeToString(), final=False))
        elif self._first is not None:
            yield SealedChunk(ciphertext=sealer.seal(self._first, final=self._final), final=self._final)
        if fails:
            await context.abort(self._codes[len(self.requests) - 1], "")
        yield SealedChunk(ciphertext=sealer.seal(COMPLETE.SerializeToString(), final=True), final=True)


def asked(node: FailingNode, **more: Any) -> tuple[str | LeantoError, int, int]:
    """The text or the fault, and the bytes sent and received."""

    async def run() -> tuple[str | LeantoError, int, int]:
        server = aio.server()
        rpc.add_PrivateComputeServicer_to_server(node, server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        try:
            async with open_leg(RemoteTarget(f"127.0.0.1:{port}", node.attester.root_base64, **more)) as leg:
                call = leg.generate(REQUEST)
                try:
                    text: str | LeantoError = "".join([chunk.text async for chunk in call])
                except LeantoError as error:
                    text = error
                return text, call.bytes_sent, call.bytes_received
        finally:
            await server.stop(None)

    return asyncio.run(run())


AGAIN = [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.CANCELLED]


@pytest.mark.parametrize("code", AGAIN, ids=lambda code: code.name)
def test_a_node_that_goes_away_is_tried_again_with_another_encapsulation(code: grpc.StatusCode) -> None:
    node = FailingNode([code, code])
    text, sent, _ = asked(node)
    assert text == "x"
    assert len({request.encapsulation for request in node.requests}) == 3
    assert sent > 3 * node.requests[0].ByteSize()


@pytest.mark.parametrize("code", AGAIN, ids=lambda code: code.name)
def test_it_is_tried_three_times_at_most(code: grpc.StatusCode) -> None:
    node = FailingNode([code] * 9)
    text, _, _ = asked(node)
    assert isinstance(text, CloudUnavailable)
    assert len(node.requests) == 3


@pytest.mark.parametrize("code", AGAIN, ids=lambda code: code.name)
def test_after_a_chunk_nothing_is_tried_again(code: grpc.StatusCode) -> None:
    node = FailingNode([code], first=TOKEN.SerializeToString())
    text, _, _ = asked(node)
    assert isinstance(text, CloudUnavailable)
    assert len(node.requests) == 1


@pytest.mark.parametrize("code", AGAIN, ids=lambda code: code.name)
def test_after_a_frame_that_carried_nothing_nothing_is_tried_again(code: grpc.StatusCode) -> None:
    node = FailingNode([code], first=b"")
    text, _, _ = asked(node, padding="constant")
    assert isinstance(text, CloudUnavailable)
    assert len(node.requests) == 1


@pytest.mark.parametrize("code", AGAIN, ids=lambda code: code.name)
def test_after_a_final_chunk_that_the_status_contradicts_nothing_is_tried_again_and_no_end_is_told(code: grpc.StatusCode) -> None:
    node = FailingNode([code], first=COMPLETE.SerializeToString(), final=True)
    text, _, _ = asked(node)
    assert isinstance(text, CloudUnavailable)
    assert len(node.requests) == 1


@pytest.mark.parametrize("code", [code for code in grpc.StatusCode if code not in (*AGAIN, grpc.StatusCode.OK)], ids=lambda code: code.name)
def test_no_other_status_is_tried_again(code: grpc.StatusCode) -> None:
    node = FailingNode([code])
    text, _, _ = asked(node)
    assert isinstance(text, LeantoError)
    assert len(node.requests) == 1


@pytest.mark.parametrize("half", [Tls(client_certificate="a.pem"), Tls(client_key="a.key")], ids=["certificate", "key"])
def test_half_a_client_certificate_is_the_users_mistake(half: Tls) -> None:
    async def run() -> None:
        async with open_leg(RemoteTarget("127.0.0.1:1", DevelopmentAttester().root_base64, half)) as leg:
            with pytest.raises(TargetError, match="go together"):
                await anext(leg.generate(REQUEST))

    asyncio.run(run())
