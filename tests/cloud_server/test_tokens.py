"""Issuer, accounts, keys and redeemer: who may have how many, what counts when, and each once."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from leanto_cloud.cli import main
from leanto_cloud.errors import ConfigurationError, Refused
from leanto_cloud.http_server import Request
from leanto_cloud.private_file import read_private
from leanto_cloud.tokens.accounts import Accounts
from leanto_cloud.tokens.issuer import Issuer
from leanto_cloud.tokens.keys import read_keys, write_keys
from leanto_cloud.tokens.redeemer import open_redeemer
from leanto_cloud.tokens.spent import KEPT_S, SpentFile, SpentProcess, StoreFailed
from leanto_wire.log.note import Verifier
from leanto_wire.status import Refusal
from leanto_wire.tokens.directory import PATH, REQUEST_PATH, REQUEST_TYPE, read_directory, write_directory
from leanto_wire.tokens.privacy_pass import request_token
from logs import witness
from mint import CHALLENGE, ISSUER, NOW, ORIGIN, key_file, mint, redeemer, running_issuer, signing_key
from nodes import NodeProcess

DAY_S = 86_400


def take(tmp_path: Path, raw: bytes) -> None:
    taker = redeemer(tmp_path, now_s=lambda: NOW)
    taker.spend(taker.check(raw))


def refusal(tmp_path: Path, raw: bytes) -> Refusal:
    with pytest.raises(Refused) as caught:
        take(tmp_path, raw)
    return caught.value.refusal


def test_a_token_is_taken_once_even_by_another_process(tmp_path: Path) -> None:
    token = mint()
    take(tmp_path, token)
    assert refusal(tmp_path, token) is Refusal.TOKEN_SPENT
    take(tmp_path, mint())


def test_no_token_is_refused_as_that(tmp_path: Path) -> None:
    assert refusal(tmp_path, b"") is Refusal.TOKEN_MISSING


def test_an_account_gets_as_many_tokens_as_it_may_have(tmp_path: Path) -> None:
    with running_issuer(tmp_path, tokens=2) as (_, url, account):
        statuses = []
        for _ in range(3):
            body = request_token(CHALLENGE, signing_key().known.public).request
            headers = {"Content-Type": REQUEST_TYPE, "Authorization": f"Bearer {account}"}
            statuses.append(httpx.post(url + REQUEST_PATH, content=body, headers=headers).status_code)
    assert statuses == [200, 200, 401]


def test_what_is_no_request_costs_an_account_nothing(tmp_path: Path) -> None:
    accounts = Accounts(tmp_path / "accounts")
    account = accounts.open(1)
    issuer = Issuer(key_file(), accounts.charge, lambda: NOW)
    good = request_token(CHALLENGE, signing_key().known.public).request

    def status(method: str = "POST", path: str = REQUEST_PATH, body: bytes = good, bearer: str = account, kind: str = REQUEST_TYPE) -> int:
        return issuer.respond(Request(method, path, body, f"Bearer {bearer}", kind))[0]

    other_key = good[:2] + bytes([good[2] ^ 1]) + good[3:]
    assert [status(body=b""), status(body=good[:-1]), status(body=good + b"x"), status(body=other_key)] == [400] * 4
    assert [status(kind="text/plain"), status(path="/"), status(method="GET"), status(bearer="x" * 20)] == [415, 404, 404, 401]
    assert [status(), status()] == [200, 401]
    accounts.close()


def test_the_accounts_keep_no_bearer_key(tmp_path: Path) -> None:
    accounts = Accounts(tmp_path / "accounts")
    account = accounts.open(1)
    accounts.close()
    assert all(account.encode() not in path.read_bytes() for path in tmp_path.iterdir())


def test_after_a_rotation_old_tokens_count_until_their_key_expires(tmp_path: Path) -> None:
    first = key_file(signing_key(0, NOW, NOW + 90 * DAY_S))
    second = first.rotated(NOW + 45 * DAY_S, 90 * DAY_S)
    old, new = mint(first.keys[0]), mint(second.keys[0])
    for days, counted in ((50, [old, new]), (100, [new])):
        taker = redeemer(tmp_path, *second.keys, now_s=lambda days=days: NOW + days * DAY_S)
        for token in (old, new):
            if token in counted:
                assert taker.check(token)
            else:
                with pytest.raises(Refused):
                    taker.check(token)
    assert len(second.rotated(NOW + 100 * DAY_S, 90 * DAY_S).keys) == 2


def test_a_directory_is_read_as_it_was_written() -> None:
    keys = [signing_key(0, NOW, NOW + DAY_S).known, signing_key(1, NOW + 5, NOW + DAY_S).known]
    found = read_directory(write_directory(ISSUER, keys))
    assert (found.issuer, found.keys) == (ISSUER, (keys[1], keys[0]))
    assert found.newest(NOW) == keys[0]
    assert found.newest(NOW + 5) == keys[1]
    assert found.newest(NOW + DAY_S) is None


@pytest.mark.parametrize("raw", [b"", b"[]", b"{}", b"[" * 20_000, b'{"token-keys":[],"issuer-name":"x"}', bytes(70_000), b"\xff"])
def test_what_is_no_directory_is_refused(raw: bytes) -> None:
    with pytest.raises(ValueError, match="directory"):
        read_directory(raw)


def test_the_issuers_keys_are_for_its_own_eyes(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    write_keys(path, key_file())
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert read_keys(path).directory == key_file().directory
    path.chmod(0o640)
    with pytest.raises(ConfigurationError, match="others may read"):
        read_keys(path)


@pytest.mark.parametrize(
    "content", [None, "x", "{}", '{"issuer":"x","keys":[{}]}', "[" * 10_000], ids=["missing", "text", "empty", "no key", "nested"]
)
def test_a_key_file_that_is_none_is_the_operators_mistake(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "keys"
    if content is not None:
        path.write_text(content)
        path.chmod(0o600)
    with pytest.raises(ConfigurationError):
        read_keys(path)


def test_a_key_file_whose_times_never_come_is_the_operators_mistake(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    write_keys(path, key_file())
    path.write_text(path.read_text().replace('"not_before": 0', '"not_before": 1e999'))
    with pytest.raises(ConfigurationError, match="not a file of issuer keys"):
        read_keys(path)


def test_a_store_in_a_process_of_its_own_says_the_same_as_one_here(tmp_path: Path) -> None:
    store = SpentProcess(tmp_path / "spent")
    assert [store.add(bytes(32), bytes(16)), store.add(bytes(32), bytes(16)), store.add(b"x" * 32, bytes(16))] == [True, False, True]
    store.close()
    here = SpentFile(tmp_path / "spent")
    assert not here.add(bytes(32), bytes(16))
    here.close()


@given(
    starts=st.lists(st.tuples(st.dictionaries(st.sampled_from("abc"), st.integers(0, 1000)), st.integers(0, 2000 + KEPT_S)), max_size=6),
    spent=st.text("abc", max_size=6),
)
def test_what_was_spent_is_kept_until_well_after_its_key_counts_at_any_node(
    tmp_path_factory: pytest.TempPathFactory, starts: list[tuple[dict[str, int], int]], spent: str
) -> None:
    store = SpentFile(tmp_path_factory.mktemp("store") / "spent")
    latest: dict[str, int] = {}
    held: set[str] = set()
    for name, (keys, now_s) in zip(spent.ljust(6), starts + [({}, 0)] * (6 - len(starts)), strict=True):
        if name != " ":
            assert store.add(name.encode() * 32, bytes(16)) is (name not in held)
            held.add(name)
        latest |= {key: max(not_after, latest.get(key, 0)) for key, not_after in keys.items()}
        store.know({key.encode() * 32: not_after for key, not_after in keys.items()}, now_s)
        held -= {key for key in held if key in latest and latest[key] < now_s - KEPT_S}
    for name in "abc":
        assert store.add(name.encode() * 32, bytes(16)) is (name not in held)
    store.close()


def test_what_servers_keep_is_for_their_own_eyes(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        Accounts(tmp_path / "accounts").open(1)
        SpentFile(tmp_path / "spent").add(bytes(32), bytes(16))
        witness(tmp_path / "memory", Verifier("log.example", 1, bytes(32)))
        read_private(tmp_path / "key", lambda: b"secret", "a key")
    finally:
        os.umask(old)
    made = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert {"accounts", "accounts-wal", "spent", "spent-wal", "memory", "key"} <= made.keys()
    assert set(made.values()) == {0o600}


def test_a_key_that_cannot_be_written_whole_is_not_there_at_all(tmp_path: Path) -> None:
    code = (
        "import resource, signal, sys; from pathlib import Path; from leanto_cloud.private_file import read_private\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (4, 4))\n"
        "read_private(Path(sys.argv[1]), lambda: b'a whole key', 'a key')\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "key")], capture_output=True, text=True, check=False)
    assert "ConfigurationError" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_store_whose_process_is_gone_takes_nothing(tmp_path: Path) -> None:
    store = SpentProcess(tmp_path / "spent")
    store._process.kill()
    store._process.wait()
    for _ in range(2):
        with pytest.raises(StoreFailed):
            store.add(bytes(32), bytes(16))
    store.close()


@pytest.mark.parametrize("name", ["", "no/such/folder"], ids=["a folder", "nowhere"])
def test_a_store_that_cannot_be_opened_is_the_operators_mistake(tmp_path: Path, name: str) -> None:
    directory = tmp_path / "directory"
    directory.write_bytes(key_file().directory)
    with pytest.raises(ConfigurationError, match="cannot be opened"):
        open_redeemer(directory, ORIGIN, tmp_path / name)


def test_the_commands_make_keys_an_account_and_a_node_that_takes_tokens(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keys, directory = str(tmp_path / "keys"), tmp_path / "directory"
    assert main(["issuer", "rotate", "--keys", keys, "--name", ISSUER]) == 0
    assert main(["issuer", "keys", "--keys", keys]) == 0
    directory.write_text(capsys.readouterr().out)
    assert read_directory(directory.read_bytes()).issuer == ISSUER
    assert main(["issuer", "account", "--accounts", str(tmp_path / "accounts"), "--tokens", "3"]) == 0
    assert len(capsys.readouterr().out.strip()) == 43
    served = ["--token-issuer", str(directory), "--token-origin", ORIGIN, "--token-store", str(tmp_path / "spent")]
    with NodeProcess(tmp_path, "--development", *served) as node:
        assert node.ready()["address"]
    assert main(["issuer", "keys", "--keys", str(tmp_path / "none")]) == 2
    assert "issuer rotate" in capsys.readouterr().err


def test_half_of_the_token_options_is_the_operators_mistake(tmp_path: Path) -> None:
    with NodeProcess(tmp_path, "--development", "--token-origin", ORIGIN) as node:
        assert node.process.wait(60) == 2
    assert "go together" in node.written()


def test_the_issuer_serves_until_it_is_told_to_stop(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    write_keys(keys, key_file())
    command = [sys.executable, "-m", "leanto_cloud", "issuer", "serve", "--keys", str(keys), "--accounts", str(tmp_path / "accounts")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = process.stdout.readline().split()[0]
        assert json.loads(httpx.get(url + PATH, trust_env=False).text)["issuer-name"] == ISSUER
        process.terminate()
        assert process.wait(20) == 0


def test_a_node_that_may_write_no_file_still_spends_tokens(tmp_path: Path) -> None:
    code = (
        "import resource, sys; from pathlib import Path; from leanto_cloud.tokens.spent import *\n"
        "store, here = SpentProcess(Path(sys.argv[1])), SpentFile(Path(sys.argv[1] + '2'))\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))\n"
        "assert store.add(bytes(32), bytes(16)) and not store.add(bytes(32), bytes(16))\n"
        "try: here.add(bytes(32), bytes(16))\n"
        "except StoreFailed: print('refused')\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "spent")], capture_output=True, text=True, check=True)
    assert done.stdout == "refused\n"
