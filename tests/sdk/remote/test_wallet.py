"""The client's tokens: fetched ahead, each gone before it is used, and nothing sent where nothing may be."""

from __future__ import annotations

import asyncio
import sqlite3
import stat
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leanto.clock import Clock
from leanto.errors import CloudUnavailable, LeantoError, PolicyError, TargetError
from leanto.policy import parse_policy
from leanto.remote import Relay, RemoteRequest, TokenSource
from leanto.remote.configured import remote_target
from leanto.remote.wallet import Kept, TokenFile, Wallet
from leanto_cloud.errors import Refused
from leanto_wire.status import Refusal
from leanto_wire.tokens.privacy_pass import Token
from mint import CHALLENGE, NOW, VARIABLE, Witnessed, key_file, redeemer, running_issuer, signing_key, source
from nodes import collect, open_leg, running_node

CLOCK = Clock(wall=lambda: NOW)


@pytest.fixture
def issuer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Witnessed, TokenSource]]:
    with running_issuer(tmp_path, tokens=10) as (seen, url, account):
        monkeypatch.setenv(VARIABLE, account)
        yield seen, source(tmp_path, url)


async def take(from_: TokenSource, count: int, **more: Any) -> list[bytes]:
    wallet = Wallet(from_, CLOCK, **{"wait_s": lambda: 3600.0, **more})
    try:
        return [await wallet.take() for _ in range(count)]
    finally:
        await wallet.close()


def fault(from_: TokenSource) -> LeantoError:
    with pytest.raises(LeantoError) as caught:
        asyncio.run(take(from_, 1))
    assert "\n" not in str(caught.value)
    return caught.value


def test_one_fetch_serves_several_attempts(issuer: tuple[Witnessed, TokenSource]) -> None:
    seen, from_ = issuer
    tokens = asyncio.run(take(from_, 3))
    assert len(set(tokens)) == 3
    for raw in tokens:
        Token.parse(raw).verify(signing_key().known.public, CHALLENGE)
    assert len(seen.issued) == 4


def test_tokens_outlive_the_process_and_are_never_given_twice(issuer: tuple[Witnessed, TokenSource]) -> None:
    seen, from_ = issuer
    first, second = asyncio.run(take(from_, 2)), asyncio.run(take(from_, 2))
    assert len({*first, *second}) == 4
    assert len(seen.issued) == 4


def test_two_clients_that_share_a_file_never_get_the_same(issuer: tuple[Witnessed, TokenSource]) -> None:
    _, from_ = issuer

    async def run() -> list[bytes]:
        return [token for tokens in await asyncio.gather(take(from_, 3), take(from_, 3)) for token in tokens]

    assert len(set(asyncio.run(run()))) == 6


def test_half_a_batch_spent_more_is_fetched_later(issuer: tuple[Witnessed, TokenSource]) -> None:
    seen, from_ = issuer

    async def run() -> None:
        wallet = Wallet(from_, CLOCK, wait_s=lambda: 0.0)
        for _ in range(3):
            await wallet.take()
        assert wallet._later is not None
        await wallet._later
        await wallet.close()

    asyncio.run(run())
    assert len(seen.issued) == 8


def test_the_file_is_for_the_owners_eyes(issuer: tuple[Witnessed, TokenSource]) -> None:
    _, from_ = issuer
    asyncio.run(take(from_, 1))
    assert stat.S_IMODE(Path(from_.store).stat().st_mode) == 0o600


def test_tokens_whose_key_expired_are_not_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [float(NOW)]
    with running_issuer(tmp_path, keys=key_file(signing_key(3, NOW - 10, NOW + 10))) as (_, url, account):
        monkeypatch.setenv(VARIABLE, account)

        async def run() -> None:
            wallet = Wallet(source(tmp_path, url), Clock(wall=lambda: now[0]), wait_s=lambda: 3600.0)
            await wallet.take()
            now[0] += 10
            with pytest.raises(CloudUnavailable, match="no key that counts now"):
                await wallet.take()
            await wallet.close()

        asyncio.run(run())


class Counting(Wallet):
    """Its issuer is a counter, so that the file alone takes time."""

    issued = 0

    async def fetch(self) -> None:
        for _ in range(self._source.batch):
            self.issued += 1
            await asyncio.to_thread(self._file.put, self._challenge.digest, Kept(b"%d" % self.issued, NOW + 1))


def tokens_left(from_: TokenSource) -> list[bytes]:
    with sqlite3.connect(from_.store) as file:
        return [row[0] for row in file.execute("SELECT token FROM token")]


@given(st.lists(st.integers(0, 40), min_size=1, max_size=12), st.integers(1, 4))
@settings(max_examples=25)
def test_whoever_stops_waiting_and_whenever_no_token_is_lost_or_given_twice(patience: list[int], batch: int) -> None:
    async def run(from_: TokenSource) -> tuple[list[bytes], int]:
        wallet = Counting(from_, CLOCK, wait_s=lambda: 3600.0)

        async def taker(turns: int) -> bytes:
            taking = asyncio.create_task(wallet.take())
            for _ in range(turns):
                await asyncio.sleep(0)
            if turns < 35:  # the rest are patient
                taking.cancel()
            (outcome,) = await asyncio.gather(taking, return_exceptions=True)
            return outcome if isinstance(outcome, bytes) else b""

        given = await asyncio.gather(*map(taker, patience))
        if wallet._fetching is not None:
            await asyncio.gather(wallet._fetching)
        await wallet.close()
        return [token for token in given if token], wallet.issued

    with tempfile.TemporaryDirectory() as folder:
        from_ = source(Path(folder), "https://issuer.example", batch=batch)
        given, issued = asyncio.run(run(from_))
        assert sorted([*given, *tokens_left(from_)]) == sorted(b"%d" % (n + 1) for n in range(issued))
        assert len(given) >= sum(turns >= 35 for turns in patience)


def test_a_fetch_that_nobody_waits_for_any_more_is_not_made_twice(issuer: tuple[Witnessed, TokenSource]) -> None:
    seen, from_ = issuer

    async def run() -> None:
        wallet = Wallet(from_, CLOCK, wait_s=lambda: 3600.0)
        first = asyncio.create_task(wallet.take())
        while wallet._fetching is None:
            await asyncio.sleep(0)
        first.cancel()
        await asyncio.wait([first])
        assert await wallet.take()
        await wallet.close()

    asyncio.run(run())
    assert len(seen.issued) == 4


def test_no_byte_of_a_spent_token_is_left_beside_the_file_or_in_it(tmp_path: Path) -> None:
    file = TokenFile(tmp_path / "wallet")
    tokens = [bytes([n]) * 354 for n in range(1, 9)]
    for token in tokens:
        file.put(b"challenge", Kept(token, NOW + 1))
    taken = [file.take(b"challenge", NOW)[0] for _ in tokens]
    assert {kept.token for kept in taken if kept} == set(tokens)
    on_disk = b"".join(path.read_bytes() for path in tmp_path.iterdir())  # while it is open, as after a kill
    assert not [token for token in tokens if token[:16] in on_disk]
    file.close()


def test_a_file_that_an_earlier_version_kept_a_log_beside_is_taken_over(tmp_path: Path) -> None:
    TokenFile(tmp_path / "wallet").close()
    with sqlite3.connect(tmp_path / "wallet") as earlier:
        earlier.execute("PRAGMA journal_mode = WAL")
        earlier.execute("INSERT INTO token VALUES (?, ?, ?)", (b"challenge", b"x" * 354, NOW + 1))
    earlier.close()
    file = TokenFile(tmp_path / "wallet")
    assert file.take(b"challenge", NOW)[0] == Kept(b"x" * 354, NOW + 1)
    file.close()
    assert [path.name for path in tmp_path.iterdir()] == ["wallet"]


def test_an_account_without_tokens_left_is_a_fault(issuer: tuple[Witnessed, TokenSource]) -> None:
    _, from_ = issuer
    assert "no tokens left" in str(fault(replace(from_, batch=11)))


def test_without_an_account_nothing_is_asked(issuer: tuple[Witnessed, TokenSource], monkeypatch: pytest.MonkeyPatch) -> None:
    seen, from_ = issuer
    monkeypatch.delenv(VARIABLE)
    assert isinstance(fault(from_), TargetError)
    assert seen.seen == []


def test_a_key_that_the_policy_does_not_name_signs_nothing(issuer: tuple[Witnessed, TokenSource]) -> None:
    seen, from_ = issuer
    assert "that the policy names" in str(fault(replace(from_, keys=("00" * 32,))))
    assert seen.issued == []
    assert asyncio.run(take(replace(from_, keys=(signing_key().known.public.key_id.hex(),)), 1))


def test_an_issuer_that_is_not_there_is_a_fault(issuer: tuple[Witnessed, TokenSource]) -> None:
    _, from_ = issuer
    assert isinstance(fault(replace(from_, issuer="http://127.0.0.1:1")), CloudUnavailable)


def test_a_retry_takes_another_token(issuer: tuple[Witnessed, TokenSource], tmp_path: Path) -> None:
    _, from_ = issuer
    tokens: list[bytes] = []
    taker = redeemer(tmp_path, now_s=lambda: NOW)

    class Flaky:
        def check(self, raw: bytes) -> Any:
            tokens.append(raw)
            if len(tokens) == 1:
                raise Refused(Refusal.DRAINING)
            return taker.check(raw)

        def spend(self, token: Any) -> None:
            taker.spend(token)

    async def run() -> None:
        async with running_node(redeemer=Flaky()) as node, open_leg(replace(node.target, tokens=from_)) as leg:
            assert await collect(leg, RemoteRequest("a b", max_tokens=2, timeout_s=20))

    asyncio.run(run())
    assert len(set(tokens)) == 2


def test_a_node_that_asks_for_tokens_is_a_fault_to_a_client_without() -> None:
    class Asking:
        def check(self, raw: bytes) -> Any:
            raise Refused(Refusal.TOKEN_MISSING)

    async def run() -> None:
        async with running_node(redeemer=Asking()) as node, open_leg(node.target) as leg:
            await collect(leg, RemoteRequest("a b", max_tokens=2, timeout_s=20))

    with pytest.raises(CloudUnavailable, match=r"\[targets.cloud.tokens\]"):
        asyncio.run(run())


def test_a_policy_names_issuer_and_relay(tmp_path: Path) -> None:
    source_text = """
    version = 1
    [targets.cloud]
    address = "node.example:443"
    [targets.cloud.tokens]
    issuer = "https://issuer.example"
    origin = "node.example"
    store = "wallet"
    [targets.cloud.relay]
    url = "https://relay.example/"
    gateway_key = "AQAg"
    """
    target = remote_target(parse_policy(source_text).cloud)
    assert target is not None
    assert target.tokens == TokenSource("https://issuer.example", "node.example", "wallet")
    assert target.relay == Relay("https://relay.example/", "AQAg")
    for missing in ("origin", "url"):
        with pytest.raises(PolicyError, match=f"needs .*{missing}"):
            parse_policy("\n".join(line for line in source_text.splitlines() if not line.strip().startswith(missing)))
    with pytest.raises(TargetError, match="plaintext"):
        remote_target(parse_policy(source_text.replace("https://issuer", "http://issuer")).cloud)
