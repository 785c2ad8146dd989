"""The whole way in real processes: a witness, a log, a release, a node that shows it, and a client that asks for no less."""

from __future__ import annotations

import asyncio
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from leanto.errors import EvidenceRefused
from leanto.remote import ReleaseLog, RemoteRequest, RemoteTarget
from leanto_cloud.cli import main
from nodes import MODEL_ID, NodeProcess, collect, open_leg, text_of

REQUEST = RemoteRequest("red green", max_tokens=3, timeout_s=30)
ORIGIN = "example.com/leanto"


@contextmanager
def running(*arguments: str) -> Iterator[tuple[str, str]]:
    """(address, what it is) of a `leanto-cloud … serve`, as it says itself."""
    code = "import sys; from leanto_cloud.cli import main; sys.exit(main(sys.argv[1:]))"
    with subprocess.Popen([sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            address, _, what = process.stdout.readline().strip().partition(" ")
            yield address, what
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0
        finally:
            process.kill()


def released(folder: Path, *witnesses: str, model_id: str = MODEL_ID, told: Sequence[str] = ()) -> str:
    """Make a release; the log's key, as the command says it."""
    options = ["--log", str(folder / "log"), "--origin", ORIGIN, "--key", str(folder / "log.pem"), "--model-id", model_id]
    code = "import sys; from leanto_cloud.cli import main; sys.exit(main(sys.argv[1:]))"
    asked = [one for address in witnesses for one in ("--witness", address)]
    command = [sys.executable, "-c", code, "release", *options, *asked, *told, "--out", str(folder / "proof")]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1]


async def ask(target: RemoteTarget) -> str:
    async with open_leg(target) as leg:
        return text_of(await collect(leg, REQUEST))


def test_a_release_is_logged_witnessed_shown_and_demanded(tmp_path: Path) -> None:
    log_key = released(tmp_path)
    watch = (
        "witness",
        "serve",
        "--name",
        "w.example",
        "--key",
        str(tmp_path / "w.pem"),
        "--memory",
        str(tmp_path / "seen"),
        "--log",
        log_key,
    )
    with running(*watch) as (witness, witness_key), running("log", "serve", str(tmp_path / "log")) as (tiles, _):
        assert released(tmp_path, witness) == log_key
        log = ReleaseLog(log_key, tmp_path / "kept/checkpoint", (witness_key,), 1, tiles)
        (tmp_path / "node").mkdir()
        with NodeProcess(tmp_path / "node", "--development", "--release-proof", str(tmp_path / "proof")) as node:
            target = replace(node.target(), log=log)
            assert asyncio.run(ask(target)) == " red green red"
            released(tmp_path, witness, model_id="another@1")  # the log grows
            assert asyncio.run(ask(target)) == " red green red"
        (tmp_path / "other").mkdir()
        with NodeProcess(tmp_path / "other", "--development") as node:  # not logged at all
            with pytest.raises(EvidenceRefused, match="nothing was sent") as caught:
                asyncio.run(ask(replace(node.target(), log=log)))
            assert caught.value.claim == "log"
    assert stat.S_IMODE((tmp_path / "log.pem").stat().st_mode) == 0o600


def test_a_node_does_not_start_under_a_release_of_something_else(tmp_path: Path) -> None:
    released(tmp_path, model_id="another@1")
    (tmp_path / "node").mkdir()
    with NodeProcess(tmp_path / "node", "--development", "--release-proof", str(tmp_path / "proof")) as node:
        assert node.process.wait(60) == 2
        assert "it was made for another installation, model or configuration" in node.written()


@pytest.mark.parametrize(
    ("told", "named"),
    [
        (["--reflection"], "configuration: reflection"),
        (["--suite", "2"], "configuration: suite"),
        (["--recycle-after", "5", "--running", "3"], "configuration: recycle_after, configuration: running"),
    ],
    ids=lambda part: part[0],
)
def test_a_node_does_not_start_with_other_options_than_those_of_its_release(tmp_path: Path, told: list[str], named: str) -> None:
    released(tmp_path)
    (tmp_path / "node").mkdir()
    proof = str(tmp_path / "proof")
    with NodeProcess(tmp_path / "node", "--development", "--release-proof", proof, *told) as node:
        assert node.process.wait(60) == 2
        assert f"({named})" in node.written()


def test_a_node_starts_with_the_options_of_its_release_wherever_it_listens(tmp_path: Path) -> None:
    told = ["--reflection", "--running", "3"]
    released(tmp_path, told=told)
    (tmp_path / "node").mkdir()
    with NodeProcess(tmp_path / "node", "--development", "--host", "localhost", "--release-proof", str(tmp_path / "proof"), *told) as node:
        assert asyncio.run(ask(node.target())) == " red green red"


def test_the_same_installation_gives_the_same_digest(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        released(tmp_path / name)
    assert (tmp_path / "a/log/tile/entries/000.p/1").read_bytes() == (tmp_path / "b/log/tile/entries/000.p/1").read_bytes()


@pytest.mark.parametrize(
    "arguments",
    [
        ["log", "serve", "/nowhere"],
        ["witness", "serve", "--name", "w", "--key", "/nowhere/k", "--memory", "m", "--log", "no key"],
        ["release", "--log", "l", "--origin", "o", "--key", "/nowhere/k", "--model-id", "m@1", "--out", "x"],
    ],
)
def test_the_operators_mistakes_are_one_line(
    arguments: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    assert capsys.readouterr().err.count("\n") == 1
