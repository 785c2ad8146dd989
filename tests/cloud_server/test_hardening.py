"""What a node's process is denied, seen from inside and from outside."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from leanto_cloud import hardening
from leanto_cloud.tokens.keys import write_keys
from leanto_wire.log.note import Verifier
from mint import key_file
from nodes import NodeProcess

LOG = Verifier("log.example", 1, bytes(32))
linux = pytest.mark.skipif(sys.platform != "linux", reason="these switches are Linux's")


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    code = f"from leanto_cloud import hardening\n{code}"
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=os.environ | environment, timeout=60
    )


@linux
def test_a_process_with_closed_memory_has_no_core_and_cannot_be_dumped() -> None:
    code = "import ctypes, resource; print(list(hardening.close_memory()))\n"
    code += "print(resource.getrlimit(resource.RLIMIT_CORE), ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))"
    assert run(code).stdout.splitlines() == ["['no core dump', 'not dumpable', 'no new privileges']", "(0, 0) 0"]


@linux
@pytest.mark.skipif(os.geteuid() == 0, reason="to root everything belongs anyway")
def test_the_memory_of_a_node_belongs_to_root(tmp_path: Path) -> None:
    with NodeProcess(tmp_path, "--development") as node:
        node.ready()
        assert Path(f"/proc/{node.process.pid}/mem").stat().st_uid == 0


SERVERS = {
    "relay": ["-c", "import sys; from leanto_cloud.relay.cli import main; sys.exit(main())", "--to", "http://127.0.0.1:1/"],
    "gateway": ["-m", "leanto_cloud", "gateway", "--node", "127.0.0.1:1", "--key", "gateway.key"],
    "issuer": ["-m", "leanto_cloud", "issuer", "serve", "--keys", "issuer.keys", "--accounts", "accounts"],
    "witness": ["-m", "leanto_cloud", "witness", "serve", "--name", "w", "--key", "w.pem", "--memory", "seen", "--log", str(LOG)],
}


@linux
@pytest.mark.parametrize("name", SERVERS)
def test_the_memory_of_whoever_holds_keys_is_closed(name: str, tmp_path: Path) -> None:
    write_keys(tmp_path / "issuer.keys", key_file())
    environment = os.environ | {"SSLKEYLOGFILE": str(tmp_path / "sessions")}
    command = [sys.executable, *SERVERS[name]]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=tmp_path, env=environment) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline().startswith("http://127.0.0.1:")
            limits, status = (Path(f"/proc/{process.pid}/{file}").read_text() for file in ("limits", "status"))
            assert re.search(r"^Max core file size +0 +0 ", limits, re.MULTILINE)
            assert "NoNewPrivs:\t1" in status
        finally:
            process.terminate()
    assert process.returncode == 0
    assert not (tmp_path / "sessions").exists()


def test_what_native_code_prints_goes_nowhere_and_the_log_goes_on() -> None:
    code = "import os\nown = hardening.take_streams()\nos.write(1, b'leak')\nos.write(2, b'leak')\nown.write('the log')"
    done = run(code)
    assert (done.stdout, done.stderr) == ("", "the log")


def test_no_file_can_be_written_while_the_log_goes_on(tmp_path: Path) -> None:
    code = f"import os, sys\nfd = os.open({str(tmp_path / 'x')!r}, os.O_RDWR | os.O_CREAT)\n"
    code += "print(list(hardening.forbid_writing(sys.stderr)))\n"
    done = run(code + "try:\n    os.write(fd, b'leak')\nexcept OSError as error:\n    print(error.strerror)\nprint('log', file=sys.stderr)")
    assert done.stdout.splitlines() == ["['no file can be written']", "File too large"]
    assert done.stderr == "log\n"
    assert (tmp_path / "x").read_bytes() == b""


def test_where_the_log_is_a_file_the_node_says_nothing_of_files(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w") as log:
        assert list(hardening.forbid_writing(log)) == []


def test_variables_that_make_libraries_talk_are_dropped() -> None:
    code = "import os; hardening.forget_telltales()\n"
    code += "print([name for name in hardening.TELLTALES if name in os.environ], os.environ['GRPC_VERBOSITY'])"
    assert run(code, GRPC_TRACE="all", SSLKEYLOGFILE="keys", GRPC_VERBOSITY="DEBUG").stdout == "[] NONE\n"


def test_swap_is_seen(tmp_path: Path) -> None:
    table = tmp_path / "swaps"
    assert not hardening.swaps(table)
    table.write_text("Filename Type Size Used Priority\n")
    assert not hardening.swaps(table)
    table.write_text("Filename Type Size Used Priority\n/dev/sdb partition 1 0 -2\n")
    assert hardening.swaps(table)


def test_a_node_says_what_is_in_force(tmp_path: Path) -> None:
    with NodeProcess(tmp_path, "--development") as node:
        node.ready()
        node.process.terminate()
        node.process.wait(30)
    assert "in force: no core dump" in node.written()
