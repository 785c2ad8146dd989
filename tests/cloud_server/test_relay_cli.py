"""`leanto-relay` and `leanto-cloud gateway` as processes: they carry an answer, say what is wrong, keep no log, and end when told to."""

from __future__ import annotations

import asyncio
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from leanto.remote import Relay, RemoteRequest, RemoteTarget
from leanto_cloud.relay.cli import main
from nodes import NodeProcess, collect, open_leg, text_of

RELAY = "import sys; from leanto_cloud.relay.cli import main; sys.exit(main())"
REQUEST = RemoteRequest("canary-7f3a green", max_tokens=2, timeout_s=20)


@contextmanager
def process(log: Path, *command: str) -> Iterator[list[str]]:
    """What a server of ours says once it serves; it must end cleanly."""
    with log.open("w") as errors, subprocess.Popen([sys.executable, *command], stdout=subprocess.PIPE, stderr=errors, text=True) as child:
        assert child.stdout is not None
        try:
            yield child.stdout.readline().split()
            child.terminate()
            assert child.wait(20) in (0, -15)
            assert child.stdout.read() == ""
        finally:
            child.kill()


async def ask(target: RemoteTarget) -> str:
    async with open_leg(target) as leg:
        return text_of(await collect(leg, REQUEST))


def test_three_processes_carry_an_answer_and_write_nothing_about_it(tmp_path: Path) -> None:
    logs, key = [tmp_path / "gateway.txt", tmp_path / "relay.txt"], tmp_path / "key"
    with NodeProcess(tmp_path, "--development") as node:
        target = node.target()
        gateway = ("-m", "leanto_cloud", "gateway", "--node", target.address, "--key", str(key))
        with process(logs[0], *gateway) as (gateway_url, gateway_key), process(logs[1], "-c", RELAY, "--to", gateway_url) as said:
            relayed = replace(target, address="node.example:443", relay=Relay(said[0], gateway_key))
            assert asyncio.run(ask(relayed)) == " canary-7f3a green"
        with process(logs[0], *gateway) as (_, again):
            assert again == gateway_key
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert [log.read_text() for log in logs] == ["", ""]


@pytest.mark.parametrize(
    "arguments",
    [
        ["--to", "http://gateway.example/"],
        ["--to", "https://a/", "--host", "0.0.0.0"],
        ["--to", "https://a/", "--tls-key", "x"],
        ["--to", "https://a/", "--tls-key", "/nonexistent", "--tls-certificate", "/nonexistent"],
        ["--to", "https://a/", "--to-roots", "/nonexistent"],
    ],
    ids=["plaintext", "no TLS", "half of TLS", "no certificate", "no roots"],
)
def test_a_relay_that_cannot_start_says_why_in_one_line(arguments: list[str]) -> None:
    done = subprocess.run([sys.executable, "-c", RELAY, *arguments], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("leanto-relay: ")
    assert done.stderr.count("\n") == 1


def test_a_mistyped_command_exits_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([])
    assert caught.value.code == 2
    assert "usage: leanto-relay" in capsys.readouterr().err
