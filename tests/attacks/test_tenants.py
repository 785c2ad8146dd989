"""One tenant against the others, and callers in numbers: nobody starves, and nothing stays behind."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

from grpc import aio

from certificates import Authority, Files
from leanto.remote import RemoteRequest, RemoteTarget, Tls
from leanto_cloud.server import Limits
from leanto_cloud.tls import TlsFiles, server_credentials
from leanto_wire.v1.inference_pb2 import TASK_TEXT, GenerateRequest, SamplingParams
from leanto_wire.v1.private_compute_pb2 import SealedRequest
from leanto_wire.v1.private_compute_pb2_grpc import PrivateComputeStub
from nodes import EchoEngine, collect, open_leg, running_node, seal_by_hand

LINE = Limits(running=1, waiting=4, drain_s=0.0)


def tenant_of(context: Any) -> str:
    return str(dict(context.invocation_metadata())["tenant"])


async def sealed(target: RemoteTarget, prompt: str) -> SealedRequest:
    async with open_leg(target) as leg:
        claims = await leg.evidence()
    inner = GenerateRequest(text=prompt, task=TASK_TEXT, sampling_params=SamplingParams(max_tokens=1))
    return seal_by_hand(claims, inner)[0]


def test_a_tenant_that_floods_the_node_does_not_starve_another() -> None:
    engine = EchoEngine(gate=asyncio.Event())

    async def run() -> None:
        async with running_node(engine, limits=LINE, tenant=tenant_of) as node, aio.insecure_channel(node.address) as channel:
            stub: Any = PrivateComputeStub(channel)

            async def ask(tenant: str) -> bool:
                call = stub.Generate(await sealed(node.target, tenant), timeout=30, metadata=[("tenant", tenant)])
                try:
                    return len([chunk async for chunk in call]) == 1
                except aio.AioRpcError:
                    return False

            flood = [asyncio.create_task(ask("flood")) for _ in range(40)]
            while node.server.admission.present < 5:
                await asyncio.sleep(0.005)
            other = asyncio.create_task(ask("other"))
            while sum(task.done() for task in flood) < 36:
                await asyncio.sleep(0.005)
            assert engine._gate
            engine._gate.set()
            assert await other
            await asyncio.gather(*flood)

    asyncio.run(run())
    assert "other" in [request.prompt for request in engine.requests][:3]


def test_a_storm_of_cancellations_leaves_nothing_behind() -> None:
    engine = EchoEngine()

    async def run() -> None:
        async with running_node(engine, limits=Limits(running=4, waiting=400, drain_s=0.0)) as node, open_leg(node.target) as leg:
            await leg.evidence()
            calls = [leg.generate(RemoteRequest("a", max_tokens=100_000, timeout_s=60)) for _ in range(300)]
            begun = [asyncio.create_task(first(call)) for call in calls]
            await asyncio.wait(begun, return_when=asyncio.FIRST_COMPLETED)
            for task in begun:
                task.cancel()
            await asyncio.wait(begun)
            for call in calls:
                await call.aclose()
            async with asyncio.timeout(30):
                while engine.running or node.server.admission.present:
                    await asyncio.sleep(0.005)
            assert await collect(leg, RemoteRequest("still there", max_tokens=1, timeout_s=20))

    asyncio.run(run())


async def first(call: Any) -> object:
    return await anext(call)


def with_mutual_tls(folder: Path, act: Any, seen: list[str]) -> Any:
    authority = Authority(folder)
    certificate, key = authority.issue("node", "127.0.0.1")

    def tenant(context: Any) -> str:
        from leanto_cloud.tenant import certificate_name

        seen.append(certificate_name(context))
        return seen[-1]

    async def run() -> Any:
        credentials = server_credentials(TlsFiles(certificate, key, authority.file), "127.0.0.1")
        async with running_node(credentials=credentials, tenant=tenant) as node:
            return await act(node.target, authority)

    return asyncio.run(run())


async def asked(target: RemoteTarget, authority: Authority, client: Files | None) -> bool:
    shown = client or (None, None)
    tls = Tls(authority.file, client_certificate=shown[0], client_key=shown[1])
    async with open_leg(RemoteTarget(target.address, target.development_root, tls)) as leg:
        try:
            return bool(await collect(leg, RemoteRequest("a", max_tokens=1, timeout_s=20)))
        except Exception:
            return False


def test_mutual_tls_lets_in_who_shows_a_certificate_and_names_the_tenant_by_it(tmp_path: Path) -> None:
    async def act(target: RemoteTarget, authority: Authority) -> list[bool]:
        return [await asked(target, authority, authority.issue(name)) for name in ("alpha.invalid", "beta.invalid")]

    seen: list[str] = []
    assert with_mutual_tls(tmp_path, act, seen) == [True, True]
    assert seen == ["alpha.invalid", "beta.invalid"]


def test_mutual_tls_keeps_out_who_shows_no_certificate(tmp_path: Path) -> None:
    def act(target: RemoteTarget, authority: Authority) -> Awaitable[bool]:
        return asked(target, authority, None)

    seen: list[str] = []
    assert not with_mutual_tls(tmp_path, act, seen)
    assert seen == []


def test_mutual_tls_keeps_out_who_shows_a_certificate_of_another_authority(tmp_path: Path) -> None:
    def act(target: RemoteTarget, authority: Authority) -> Awaitable[bool]:
        return asked(target, authority, Authority(tmp_path, "other").issue("alpha.invalid"))

    seen: list[str] = []
    assert not with_mutual_tls(tmp_path, act, seen)
    assert seen == []
