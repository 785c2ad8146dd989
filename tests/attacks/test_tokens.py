"""Attacks on one-time tokens by clients, by whoever steals one, and by crashes. The node must serve nothing for them."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc import aio

from fakes import FakeClock
from leanto_cloud.errors import Refused
from leanto_cloud.tokens.keys import SigningKey
from leanto_cloud.tokens.redeemer import Redeemer
from leanto_cloud.tokens.spent import SpentFile
from leanto_wire.status import Refusal
from leanto_wire.tokens.privacy_pass import TOKEN_BYTES, TokenChallenge
from leanto_wire.v1.inference_pb2 import TASK_TEXT, GenerateRequest, SamplingParams
from leanto_wire.v1.private_compute_pb2 import SealedRequest
from leanto_wire.v1.private_compute_pb2_grpc import PrivateComputeStub
from mint import CHALLENGE, ISSUER, NOW, ORIGIN, key_file, mint, signing_key
from nodes import EchoEngine, NodeProcess, open_leg, running_node, seal_by_hand

OK, UNAUTHENTICATED = grpc.StatusCode.OK, grpc.StatusCode.UNAUTHENTICATED
MESSAGE = GenerateRequest(text="a b", task=TASK_TEXT, sampling_params=SamplingParams(max_tokens=2))
DIES = "type('Dies', (EchoEngine,), {'generate': lambda *_: __import__('os').kill(__import__('os').getpid(), 9)})()"


class Client:
    """Seals by hand whatever token it is given, and tells the status."""

    def __init__(self, target: Any, channel: aio.Channel) -> None:
        self._target = target
        self._stub: Any = PrivateComputeStub(channel)

    async def sealed(self, token: bytes) -> SealedRequest:
        async with open_leg(self._target) as leg:
            return seal_by_hand(await leg.evidence(), MESSAGE, token)[0]

    async def send(self, request: SealedRequest) -> grpc.StatusCode:
        try:
            async for _ in self._stub.Generate(request, timeout=20):
                pass
        except aio.AioRpcError as error:
            return error.code()
        return OK

    async def spend(self, token: bytes) -> grpc.StatusCode:
        return await self.send(await self.sealed(token))


@asynccontextmanager
async def client_of(target: Any) -> AsyncIterator[Client]:
    async with aio.insecure_channel(target.address) as channel:
        yield Client(target, channel)


def attack(folder: Path, act: Callable[[Client], Awaitable[list[grpc.StatusCode]]], **more: Any) -> tuple[list[grpc.StatusCode], int]:
    """What `act` was told, and how many requests the engine saw. At the end an honest token must still be taken."""
    spent = more.pop("spent", None) or SpentFile(folder / "spent")

    async def run() -> tuple[list[grpc.StatusCode], int]:
        engine = EchoEngine()
        taker = Redeemer(CHALLENGE, [signing_key().known, signing_key(4, NOW - 10, NOW).known], spent, now_s=lambda: NOW)
        async with running_node(engine, redeemer=taker, **more) as node, client_of(node.target) as client:
            told, seen = await act(client), len(engine.requests)
            if not isinstance(spent, FullDisk):
                assert await client.spend(mint()) is OK
            return told, seen

    return asyncio.run(run())


class FullDisk(SpentFile):
    """A store that may not grow any more."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        (pages,) = self._database.execute("PRAGMA page_count").fetchone()
        self._database.execute(f"PRAGMA max_page_count = {pages}")


def told(folder: Path, token: bytes) -> list[grpc.StatusCode]:
    """What the node says to `token`, for which the engine must not run."""

    async def act(client: Client) -> list[grpc.StatusCode]:
        return [await client.spend(token)]

    statuses, seen = attack(folder, act)
    assert seen == 0
    return statuses


def test_a_token_spent_twice_is_refused(tmp_path: Path) -> None:
    async def act(client: Client) -> list[grpc.StatusCode]:
        token = mint()
        return [await client.spend(token), await client.spend(token)]

    assert attack(tmp_path, act) == ([OK, UNAUTHENTICATED], 1)


def test_of_many_that_spend_one_token_at_once_one_is_served(tmp_path: Path) -> None:
    async def act(client: Client) -> list[grpc.StatusCode]:
        token = mint()
        requests = [await client.sealed(token) for _ in range(8)]
        return sorted(await asyncio.gather(*map(client.send, requests)), key=lambda code: code is not OK)

    assert attack(tmp_path, act) == ([OK, *[UNAUTHENTICATED] * 7], 1)


def test_a_token_spent_before_the_node_was_killed_in_mid_request_is_refused_after_it(tmp_path: Path) -> None:
    (tmp_path / "directory").write_bytes(key_file().directory)
    store = ["--token-issuer", str(tmp_path / "directory"), "--token-origin", ORIGIN, "--token-store", str(tmp_path / "spent")]
    token = mint()

    async def spend(node: NodeProcess) -> grpc.StatusCode:
        async with client_of(node.target()) as client:
            return await client.spend(token)

    with NodeProcess(tmp_path, "--development", *store, engine=DIES) as node:
        assert asyncio.run(spend(node)) is grpc.StatusCode.UNAVAILABLE
        assert node.process.wait(20) == -9
    (tmp_path / "ready.json").unlink()
    with NodeProcess(tmp_path, "--development", *store) as node:
        assert asyncio.run(spend(node)) is UNAUTHENTICATED
        token = mint()
        assert asyncio.run(spend(node)) is OK


def serving(folder: Path, name: str, *keys: SigningKey) -> NodeProcess:
    """A node of its own process that takes tokens of `keys`, over the one store of all."""
    (folder / name).mkdir()
    (folder / name / "directory").write_bytes(key_file(*keys).directory)
    asked = ["--token-issuer", str(folder / name / "directory"), "--token-origin", ORIGIN, "--token-store", str(folder / "spent")]
    return NodeProcess(folder / name, "--development", *asked)


def test_a_token_is_not_taken_again_after_a_node_that_does_not_know_its_key_has_started(tmp_path: Path) -> None:
    token = mint(signing_key(0))

    async def spend(node: NodeProcess) -> grpc.StatusCode:
        async with client_of(node.target()) as client:
            return await client.spend(token)

    with serving(tmp_path, "old", signing_key(0)) as old:
        assert asyncio.run(spend(old)) is OK
        with serving(tmp_path, "new", signing_key(1)) as new:
            assert new.ready()["address"]
            assert asyncio.run(spend(old)) is UNAUTHENTICATED


def test_a_token_that_waited_in_line_until_its_key_had_expired_is_not_taken_again(tmp_path: Path) -> None:
    expires = int(time.time()) - 60
    key = signing_key(5, 0, expires)
    (tmp_path / "directory").write_bytes(key_file(key).directory)
    clock = FakeClock(expires - 300)
    taker = Redeemer(CHALLENGE, [key.known], SpentFile(tmp_path / "spent"), now_s=clock.read)
    raw = mint(key)
    taker.spend(taker.check(raw))
    waiting, unspent = taker.check(raw), taker.check(mint(key))
    code = "import sys; from pathlib import Path; from leanto_cloud.tokens.redeemer import open_redeemer\n"
    code += "open_redeemer(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3])).close()"
    restarted = [sys.executable, "-c", code, str(tmp_path / "directory"), ORIGIN, str(tmp_path / "spent")]
    subprocess.run(restarted, check=True, timeout=60)  # a worker that starts a minute after the key has expired
    with pytest.raises(Refused, match="spent") as caught:
        taker.spend(waiting)  # by a clock that is behind
    assert caught.value.refusal is Refusal.TOKEN_SPENT
    clock.advance(300)
    for token in (waiting, unspent):
        with pytest.raises(Refused) as caught:
            taker.spend(token)
        assert caught.value.refusal is Refusal.TOKEN_INVALID
    taker.close()


def test_a_token_for_another_origin_is_refused(tmp_path: Path) -> None:
    assert told(tmp_path, mint(challenge=TokenChallenge(ISSUER, "other.example"))) == [UNAUTHENTICATED]


def test_a_token_that_names_another_issuer_is_refused(tmp_path: Path) -> None:
    assert told(tmp_path, mint(challenge=TokenChallenge("other.example", ORIGIN))) == [UNAUTHENTICATED]


def test_a_token_of_a_foreign_key_is_refused(tmp_path: Path) -> None:
    assert told(tmp_path, mint(signing_key(9))) == [UNAUTHENTICATED]


def test_a_foreign_signature_under_a_known_key_id_is_refused(tmp_path: Path) -> None:
    foreign, known = mint(signing_key(9)), signing_key().known.public.key_id
    assert told(tmp_path, foreign[:66] + known + foreign[98:]) == [UNAUTHENTICATED]


def test_a_token_of_an_expired_key_is_refused(tmp_path: Path) -> None:
    assert told(tmp_path, mint(signing_key(4, NOW - 10, NOW))) == [UNAUTHENTICATED]


def test_a_token_made_up_without_an_issuer_is_refused(tmp_path: Path) -> None:
    known = signing_key().known.public.key_id
    assert told(tmp_path, b"\x00\x02" + bytes(32) + CHALLENGE.digest + known + b"\x01" * 256) == [UNAUTHENTICATED]


@pytest.mark.parametrize("length", [0, 1, TOKEN_BYTES - 1, TOKEN_BYTES + 1, 100_000])
def test_a_token_of_another_length_is_refused(tmp_path: Path, length: int) -> None:
    assert told(tmp_path, (mint() + bytes(length))[:length]) == [UNAUTHENTICATED]


def test_a_token_changed_in_one_bit_is_refused(tmp_path: Path) -> None:
    token = bytearray(mint())
    token[5] ^= 1  # in its nonce: spent, it would count as another
    assert told(tmp_path, bytes(token)) == [UNAUTHENTICATED]


def test_a_token_moved_to_another_request_opens_nothing_and_is_gone(tmp_path: Path) -> None:
    async def act(client: Client) -> list[grpc.StatusCode]:
        victims, mine = mint(), mint()
        request = await client.sealed(mine)
        request.token = victims
        return [await client.send(request), await client.spend(victims), await client.spend(mine)]

    assert attack(tmp_path, act) == ([grpc.StatusCode.INVALID_ARGUMENT, UNAUTHENTICATED, OK], 1)


def test_a_token_taken_off_a_request_opens_nothing(tmp_path: Path) -> None:
    async def run() -> grpc.StatusCode:
        async with running_node() as node, client_of(node.target) as client:  # a node that asks for none
            request = await client.sealed(mint())
            request.ClearField("token")
            return await client.send(request)

    assert asyncio.run(run()) is grpc.StatusCode.INVALID_ARGUMENT


def test_a_request_to_a_key_that_is_gone_costs_no_token(tmp_path: Path) -> None:
    async def act(client: Client) -> list[grpc.StatusCode]:
        token = mint()
        request = await client.sealed(token)
        request.evidence_digest = bytes(32)
        return [await client.send(request), await client.spend(token)]

    assert attack(tmp_path, act) == ([grpc.StatusCode.FAILED_PRECONDITION, OK], 1)


def test_on_a_full_disk_no_token_is_taken_at_all(tmp_path: Path) -> None:
    store = FullDisk(tmp_path / "spent")

    async def act(client: Client) -> list[grpc.StatusCode]:
        return [await client.spend(mint()) for _ in range(200)]

    statuses, seen = attack(tmp_path, act, spent=store)
    assert set(statuses[-20:]) == {grpc.StatusCode.INTERNAL}
    assert seen == statuses.count(OK)
