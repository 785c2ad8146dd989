"""`leanto.v1.PrivateCompute`: open, admit, generate, seal. Keeps nothing of a request once its answer has ended.

Knows nothing of ports, processes or which engine it has.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from google.protobuf.message import DecodeError
from grpc import aio

from leanto_cloud import cadence, messages
from leanto_cloud.admission import Admission
from leanto_cloud.engines.base import Engine
from leanto_cloud.errors import Refused, RequestError
from leanto_cloud.identity import Identity
from leanto_cloud.tenant import Tenant, certificate_name
from leanto_cloud.tokens.redeemer import Redeemer
from leanto_wire.status import Refusal
from leanto_wire.v1.inference_pb2 import GenerateRequest, GenerateResponse
from leanto_wire.v1.private_compute_pb2 import EvidenceRequest, EvidenceResponse, SealedChunk, SealedRequest
from leanto_wire.v1.private_compute_pb2_grpc import PrivateComputeServicer

Context = aio.ServicerContext[Any, Any]

MAX_GENERATION_S = 300.0


class PrivateCompute(PrivateComputeServicer):
    """The service, over one engine and one identity."""

    def __init__(
        self,
        engine: Engine,
        identity: Identity,
        admission: Admission,
        *,
        tenant: Tenant = certificate_name,
        redeemer: Redeemer | None = None,
        limit_s: float = MAX_GENERATION_S,
    ) -> None:
        self._engine = engine
        self._identity = identity
        self._admission = admission
        self._tenant = tenant
        self._redeemer = redeemer
        self._limit_s = limit_s
        self._clock = cadence.Clock()

    async def GetEvidence(self, request: EvidenceRequest, context: Context) -> EvidenceResponse:
        """Evidence for the current key, bound to the caller's nonce."""
        return await self._identity.evidence_aside(request.nonce)

    async def Generate(self, request: SealedRequest, context: Context) -> AsyncGenerator[SealedChunk]:
        """One sealed answer. A caller that cancels, or whose deadline passes, stops the engine."""
        token = self._redeemer.check(request.token) if self._redeemer else None  # whoever has none does not stand in line
        async with self._admission.admit(self._tenant(context)):
            self._identity.key_for(request)  # what cannot be opened anyway costs no token
            if self._redeemer and token:
                await asyncio.to_thread(self._redeemer.spend, token)
            message, sealer = self._identity.open(request)
            asked = _parse(message)
            answer = cadence.sealed(self._respond(asked), sealer, asked, self._clock)
            async with aclosing(_within(self._limit_s, answer)) as chunks:
                async for chunk in chunks:
                    yield chunk

    async def _respond(self, request: GenerateRequest) -> AsyncGenerator[GenerateResponse]:
        """Chunks, then what ends the answer: complete, or an error that only the client can read."""
        try:
            async with aclosing(self._generate(request)) as responses:
                async for response in responses:
                    yield response
        except RequestError as error:
            yield messages.failure(error)

    async def _generate(self, request: GenerateRequest) -> AsyncGenerator[GenerateResponse]:
        capabilities = self._engine.capabilities
        asked = messages.engine_request(request)
        messages.check_supported(request, asked, capabilities)
        answer = messages.Answer(request, capabilities.model_id, self._engine.prompt_tokens(asked))
        async with aclosing(self._engine.generate(asked)) as tokens:
            async for token in tokens:
                answer.add(token)
                if request.stream:
                    yield answer.chunk(token)
        yield answer.complete()


async def _within(limit_s: float, chunks: AsyncGenerator[SealedChunk]) -> AsyncGenerator[SealedChunk]:
    """`chunks` until the time is up, the reader's included. Raises TimeoutError."""
    loop = asyncio.get_running_loop()
    until = loop.time() + limit_s
    async with aclosing(chunks):
        while loop.time() < until:
            async with asyncio.timeout_at(until):
                chunk = await anext(chunks, None)
            if chunk is None:
                return
            yield chunk
    raise TimeoutError


def _parse(message: bytes) -> GenerateRequest:
    try:
        return GenerateRequest.FromString(message)
    except DecodeError:
        raise Refused(Refusal.NOT_OPENED) from None
