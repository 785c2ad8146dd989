"""The cloud leg against a node that lies: in its evidence, in its answer, in its status."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import pytest

from leanto.errors import EvidenceRefused, LeantoError, ProtocolFault
from leanto.remote import RemoteCall, RemoteChunk
from leanto_cloud.development import DevelopmentAttester
from leanto_cloud.identity import Identity
from leanto_wire.keys import PrivateKey
from leanto_wire.seal import Sealer
from leanto_wire.v1.inference_pb2 import GenerateComplete, GenerateResponse, GenerateStreamChunk, OutputLogProbs
from leanto_wire.v1.private_compute_pb2 import EvidenceResponse, KeyConfig, SealedChunk, SealedRequest
from nodes import MODEL_ID, REQUEST, collect, fault_of, lying_node, open_leg, running_node, text_of


def other_key(honest: EvidenceResponse) -> EvidenceResponse:
    config = KeyConfig.FromString(honest.key_config)
    config.public_key = PrivateKey.generate().public_bytes
    honest.key_config = config.SerializeToString()
    return honest


def other_nonce(honest: EvidenceResponse) -> EvidenceResponse:
    honest.nonce = bytes(32)
    return honest


def other_signature(honest: EvidenceResponse) -> EvidenceResponse:
    honest.report = bytes(64)
    return honest


@pytest.mark.parametrize(
    ("lie", "claim"),
    [(other_key, "signature"), (other_nonce, "freshness"), (other_signature, "signature"), (lambda _: EvidenceResponse(), "type")],
    ids=["key substituted", "nonce", "signature", "empty"],
)
def test_a_node_that_lies_in_its_evidence_is_sent_nothing(lie: Callable[[EvidenceResponse], EvidenceResponse], claim: str) -> None:
    async def run() -> LeantoError:
        async def answer(_: Identity, __: SealedRequest) -> AsyncIterator[SealedChunk]:
            raise AssertionError("a request reached a node that lied")
            yield

        async with lying_node(lie_about_evidence=lie, answer=answer) as target:
            return await fault_of(target)

    fault = asyncio.run(run())
    assert isinstance(fault, EvidenceRefused)
    assert fault.claim == claim


def test_a_node_under_another_root_is_refused() -> None:
    async def run() -> LeantoError:
        async with running_node() as node:
            return await fault_of(replace(node.target, development_root=DevelopmentAttester().root_base64))

    assert isinstance(asyncio.run(run()), EvidenceRefused)


Write = Callable[[Sealer], list[SealedChunk]]


def chunk(sealer: Sealer, response: GenerateResponse | bytes, *, final: bool) -> SealedChunk:
    raw = response if isinstance(response, bytes) else response.SerializeToString()
    return SealedChunk(ciphertext=sealer.seal(raw, final=final), final=final)


def token(n: int = 1) -> GenerateResponse:
    return GenerateResponse(
        chunk=GenerateStreamChunk(token_ids=list(range(n)), text="x", output_logprobs=OutputLogProbs(token_logprobs=[-1.0] * n))
    )


def words(n: int, text: str) -> GenerateResponse:
    logprobs = OutputLogProbs(token_logprobs=[-1.0] * n)
    return GenerateResponse(chunk=GenerateStreamChunk(token_ids=list(range(n)), text=text, output_logprobs=logprobs))


def complete(**changes: str) -> GenerateResponse:
    return GenerateResponse(complete=GenerateComplete(**({"finish_reason": "stop", "model_id": MODEL_ID} | changes)))  # type: ignore[arg-type]


LIES: dict[str, Write] = {
    "garbage": lambda sealer: [SealedChunk(ciphertext=b"garbage", final=False)],
    "nothing": lambda sealer: [],
    "no end": lambda sealer: [chunk(sealer, token(), final=False)],
    "an end that is not marked": lambda sealer: [chunk(sealer, complete(), final=False)],
    "a token as the end": lambda sealer: [chunk(sealer, token(), final=True)],
    "no response": lambda sealer: [chunk(sealer, b"\xff\xff", final=False)],
    "an empty response": lambda sealer: [chunk(sealer, b"", final=False)],
    "another model": lambda sealer: [chunk(sealer, complete(model_id="other@1"), final=True)],
    "an unknown reason": lambda sealer: [chunk(sealer, complete(finish_reason="\x1b[2J"), final=True)],
    "more tokens than asked": lambda sealer: [chunk(sealer, token(5), final=False)],
    "text without tokens": lambda sealer: [chunk(sealer, words(0, "x"), final=False)],
    "more text than its tokens can stand for": lambda sealer: [chunk(sealer, words(1, "x" * 1025), final=False)],
    "more text little by little": lambda sealer: [chunk(sealer, words(n, "x" * 1000), final=False) for n in (1, 0)],
    "a megabyte of text for a token": lambda sealer: [chunk(sealer, words(1, "x" * 1_000_000), final=False)],
    "tokens without logprobs": lambda sealer: [
        chunk(sealer, GenerateResponse(chunk=GenerateStreamChunk(token_ids=[1], text="x")), final=False)
    ],
    "something after the end": lambda sealer: [chunk(sealer, complete(), final=True), SealedChunk(ciphertext=b"more")],
}


@pytest.mark.parametrize("name", LIES)
def test_a_node_that_answers_what_the_protocol_forbids_is_caught(name: str) -> None:
    async def run() -> tuple[LeantoError, list[RemoteChunk]]:
        async def answer(identity: Identity, request: SealedRequest) -> AsyncIterator[SealedChunk]:
            _, sealer = identity.open(request)
            for part in LIES[name](sealer):
                yield part

        chunks: list[RemoteChunk] = []
        async with lying_node(answer=answer) as target, open_leg(target) as leg:
            with pytest.raises(LeantoError) as caught:
                await drain(leg.generate(REQUEST), chunks)
        return caught.value, chunks

    fault, chunks = asyncio.run(run())
    assert isinstance(fault, ProtocolFault)
    assert all(part.finish_reason is None for part in chunks)


def test_text_that_comes_later_than_its_tokens_is_honest() -> None:
    async def run() -> str:
        async def answer(identity: Identity, request: SealedRequest) -> AsyncIterator[SealedChunk]:
            _, sealer = identity.open(request)
            for n, text in ((2, ""), (0, "x" * 2000), (1, "y" * 1000)):
                yield chunk(sealer, words(n, text), final=False)
            yield chunk(sealer, complete(), final=True)

        async with lying_node(answer=answer) as target, open_leg(target) as leg:
            return text_of(await collect(leg, REQUEST))

    assert len(asyncio.run(run())) == 3000


def test_a_servers_own_words_reach_no_message() -> None:
    async def run() -> LeantoError:
        async def answer(_: Identity, __: SealedRequest) -> AsyncIterator[SealedChunk]:
            raise ValueError("\x1b[2J pay here: https://evil.invalid")
            yield

        async with lying_node(answer=answer) as target:
            return await fault_of(target)

    assert "evil" not in str(asyncio.run(run()))


async def drain(call: RemoteCall, into: list[RemoteChunk]) -> None:
    async for part in call:
        into.append(part)
