"""What a node proves is shown before anything is sealed to it, and an application may find it not good enough."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from asking import ask
from asking import client as client_of
from fakes import UNSURE, FakeEdge, call_tokens
from leanto.errors import EvidenceRefused
from leanto_cloud.identity import Identity
from leanto_cloud.server import Limits
from leanto_wire.claims import Claims
from leanto_wire.v1.private_compute_pb2 import EvidenceResponse, SealedChunk, SealedRequest
from nodes import REQUEST, EchoEngine, collect, fault_of, lying_node, open_leg, running_node

CALL = '{"intent": "alarm_query", "slots": {}}'


def test_the_claims_are_shown_after_the_evidence_and_before_any_sealed_byte() -> None:
    events: list[str] = []

    def evidence(honest: EvidenceResponse) -> EvidenceResponse:
        events.append("evidence")
        return honest

    async def answer(_: Identity, __: SealedRequest) -> AsyncIterator[SealedChunk]:
        events.append("request")
        for chunk in ():
            yield chunk

    def show(claims: Claims) -> None:
        assert {"key", "release", "model"} == {claim.name for claim in claims.claims}
        assert all(claim.proves and claim.does_not_prove and claim.trusted_parties for claim in claims.claims)
        events.append("shown")

    async def run() -> None:
        async with lying_node(lie_about_evidence=evidence, answer=answer) as target:
            await fault_of(target, on_evidence=show)

    asyncio.run(run())
    assert events == ["evidence", "shown", "request"]


class NotEnough(Exception):
    """Of an application."""


@pytest.mark.parametrize("error", [NotEnough("a secret of ours"), EvidenceRefused("not for us", claim="machine")], ids=["its own", "ours"])
def test_claims_that_the_application_refuses_are_sealed_nothing(error: Exception) -> None:
    engine = EchoEngine()

    def refuse(_: Claims) -> None:
        raise error

    async def run() -> EvidenceRefused:
        async with running_node(engine) as node, open_leg(node.target, on_evidence=refuse) as leg:
            for _ in range(2):  # a refusal is not taken for an acceptance the next time
                with pytest.raises(EvidenceRefused) as caught:
                    await collect(leg, REQUEST)
            (key,) = node.identity._keys
            assert not key._opened
            return caught.value

    fault = asyncio.run(run())
    assert engine.requests == []
    assert "a secret of ours" not in str(fault)
    assert fault is error or fault.__cause__ is error


def test_the_same_claims_are_shown_once_over_requests_and_connections_and_others_again() -> None:
    shown: list[Claims] = []
    engine = EchoEngine()

    async def run() -> None:
        async with running_node(engine, limits=Limits(running=4, drain_s=0.0)) as node:
            target = replace(node.target, hedge_after_s=0.0)
            async with open_leg(target, on_evidence=shown.append) as leg:
                for _ in range(3):
                    await collect(leg, REQUEST)
                assert len(leg._sessions) == 2
                assert len(shown) == 1
                node.identity._keys.clear()  # what a restart does
                await collect(leg, REQUEST)

    asyncio.run(run())
    assert len({claims.evidence_digest for claims in shown}) == len(shown) == 2


def test_claims_that_say_something_else_of_the_same_key_are_shown_again() -> None:
    shown: list[Claims] = []

    async def run() -> None:
        async with running_node() as node, open_leg(node.target, on_evidence=shown.append) as leg:
            claims = await leg.evidence()
            leg._show(claims)
            leg._show(replace(claims, claims=claims.claims[1:]))

    asyncio.run(run())
    assert len(shown) == 2


def test_a_client_whose_application_refuses_the_node_answers_locally_and_says_why() -> None:
    engine = EchoEngine()

    def refuse(_: Claims) -> None:
        raise NotEnough

    async def run() -> tuple[str, tuple[str, ...]]:
        async with (
            running_node(engine) as node,
            client_of(FakeEdge(call_tokens(CALL, UNSURE)), node.target, on_evidence=refuse) as client,
        ):
            reply = await client.ask("when do I wake")
            return reply.text, reply.decision.labels

    text, labels = asyncio.run(run())
    assert text == CALL
    assert "cloud-refused" in labels
    assert engine.requests == []


def test_a_client_that_never_leans_shows_nothing() -> None:
    def fail(_: Claims) -> None:
        raise AssertionError

    assert ask(client_of(FakeEdge(call_tokens(CALL)), on_evidence=fail)).text == CALL
