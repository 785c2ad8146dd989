"""Asking a client whose far ends are fakes, and what a reader of its events sees."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

from fakes import FakeEdge, FakeMeter
from leanto import AsyncClient, Event, FinalEvent, Policy, Reply, RestartEvent, TextEvent
from leanto.policy.schema import ConfidenceThreshold, Handoff, Quality

CALL = '{"intent": "alarm_query", "slots": {}}'
BETTER = '{"intent": "alarm_set", "slots": {"time": "six"}}'
POLICY = Policy(
    handoff=Handoff(hold_tokens=2, stream_floor=-2.0, window=2),
    quality=Quality(ConfidenceThreshold(call=0.5, text=0.5)),
)


def client(edge: FakeEdge, cloud: Any = None, policy: Policy = POLICY, **options: Any) -> AsyncClient:
    return AsyncClient(model=edge, cloud=cloud, policy=policy, sources=(), meter=FakeMeter(None), **options)


def ask(client: AsyncClient, prompt: str = "when do I wake", **options: Any) -> Reply:
    return asyncio.run(client.ask(prompt, **options))


def stream(client: AsyncClient, prompt: str = "once", **options: Any) -> list[Event]:
    async def collect() -> list[Event]:
        return [event async for event in client.stream(prompt, **options)]

    return asyncio.run(collect())


def visible(events: list[Event]) -> str:
    text = ""
    for event in events:
        if isinstance(event, TextEvent):
            text += event.text
        elif isinstance(event, RestartEvent):
            assert event.dropped_chars == len(text)
            text = ""
    return text


def final(events: list[Event]) -> Reply:
    assert isinstance(events[-1], FinalEvent)
    return events[-1].reply


def handed(policy: Policy = POLICY, **fields: Any) -> Policy:
    return replace(policy, handoff=replace(policy.handoff, **fields))
