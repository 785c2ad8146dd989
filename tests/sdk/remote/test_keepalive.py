"""Pings on the channel to a node: a line that died is found out, and no honest one is cut for asking too often."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from leanto.errors import CloudUnavailable
from leanto.remote import channel
from leanto_cloud import server
from leanto_cloud.engines.base import EngineRequest, EngineToken
from nodes import REQUEST, EchoEngine, open_leg, running_node


def hastened(options: tuple[tuple[str, int], ...], **changes: int) -> tuple[tuple[str, int], ...]:
    known = dict(options)
    assert {f"grpc.{name.replace('__', '.')}" for name in changes} <= set(known)
    return tuple((known | {f"grpc.{name.replace('__', '.')}": value for name, value in changes.items()}).items())


@asynccontextmanager
async def freezable(address: str) -> AsyncIterator[tuple[str, asyncio.Event]]:
    """An address in front of another, and what freezes the line: it stays open, and nothing passes any more."""
    frozen, tasks = asyncio.Event(), set[asyncio.Task[None]]()
    host, port = address.split(":")

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                if frozen.is_set():
                    await asyncio.Event().wait()
                writer.write(data)
        except OSError:
            pass
        finally:
            writer.close()

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, here = await asyncio.open_connection(host, int(port))
        tasks.update({asyncio.create_task(pass_on(reader, here)), asyncio.create_task(pass_on(there, writer))})

    listening = await asyncio.start_server(carry, "127.0.0.1", 0)
    try:
        yield f"127.0.0.1:{listening.sockets[0].getsockname()[1]}", frozen
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        listening.close()


class OneWord(EchoEngine):
    """Says one, and then nothing for ever."""

    async def generate(self, request: EngineRequest) -> AsyncGenerator[EngineToken]:
        yield EngineToken(0, " red", -0.5)
        await asyncio.Event().wait()


def test_a_line_that_freezes_in_mid_answer_is_found_out_long_before_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel, "OPTIONS", hastened(channel.OPTIONS, keepalive_time_ms=300, http2__ping_timeout_ms=300))

    async def run() -> float:
        async with (
            running_node(OneWord()) as node,
            freezable(node.address) as (address, frozen),
            open_leg(replace(node.target, address=address)) as leg,
        ):
            call = leg.generate(REQUEST)
            await anext(call)
            frozen.set()
            begun = time.monotonic()
            with pytest.raises(CloudUnavailable):
                await anext(call)
            return time.monotonic() - begun

    assert asyncio.run(run()) < REQUEST.timeout_s / 2


def test_a_client_pings_less_often_than_a_node_allows_and_not_without_a_call() -> None:
    ours, theirs = dict(channel.OPTIONS), dict(server._OPTIONS)
    assert ours["grpc.keepalive_time_ms"] > 2 * theirs["grpc.http2.min_ping_interval_without_data_ms"]
    assert ours["grpc.keepalive_permit_without_calls"] == 0
