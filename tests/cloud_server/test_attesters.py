"""Attesters on a made-up kernel: real files that change as Linux documents of configfs-tsm-report."""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import os
import shlex
import shutil
import socketserver
import struct
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import cbor2
import pytest

from hardware import NONCE, NOW_S, NitroMachine, NvidiaService, SnpMachine
from leanto.clock import Clock
from leanto.remote import RemoteRequest
from leanto_cloud.attesters import make_attester, nvidia
from leanto_cloud.attesters.certificate_table import parse_table
from leanto_cloud.attesters.configfs import Configfs
from leanto_cloud.attesters.nitro import NitroAttester
from leanto_cloud.attesters.tsm import PROVIDERS, TsmAttester
from leanto_cloud.errors import AttestationError
from leanto_cloud.identity import Identity
from leanto_wire.evidence import verify
from nodes import RELEASE, collect, open_leg, running_node, text_of

GUIDS = {"vcek": "63da758d-e664-4564-adc5-f4b93be8accd", "ask": "4ab7b379-bbac-4fe4-a02f-05aef327c782"}
GUIDS["ark"] = "c0b406a4-a803-4952-9743-3fb6014cd0ae"


def certificate_table(entries: dict[str, bytes]) -> bytes:
    """A table as a host lays it out: entries, an empty one, then what they point to."""
    offset, head, body = 24 * (len(entries) + 1), b"", b""
    for name, value in entries.items():
        head += uuid.UUID(GUIDS[name]).bytes + struct.pack("<II", offset + len(body), len(value))
        body += value
    return head + bytes(24) + body


class Kernel(Configfs):
    """A folder whose files do what the kernel's do. `meddle` writes in between, as another process might, that many times."""

    def __init__(
        self, root: Path, machine: SnpMachine, *, provider: str = "sev_guest", meddle: int = 0, table: bytes | None = None
    ) -> None:
        super().__init__(root)
        self._machine = machine
        self._provider = provider
        self._meddle = meddle
        self._table = table
        self.blocked = 0

    def make(self, folder: Path) -> None:
        super().make(folder)
        for name, value in {"provider": f"{self._provider}\n", "generation": "0\n", "inblob": "", "outblob": ""}.items():
            (folder / name).write_text(value)

    def write(self, file: Path, data: bytes) -> None:
        super().write(file, data)
        self._generate(file.parent, data)

    def read(self, file: Path) -> bytes:
        if file.name == "outblob" and self._meddle:
            self._meddle -= 1
            if self._meddle % 2:
                self.blocked += 1
                raise OSError(errno.EWOULDBLOCK, os.strerror(errno.EWOULDBLOCK))
            self._generate(file.parent, b"x" * 64)
        return super().read(file)

    def remove(self, folder: Path) -> None:
        shutil.rmtree(folder)

    def _generate(self, folder: Path, data: bytes) -> None:
        generation = int((folder / "generation").read_text()) + 1
        (folder / "generation").write_text(f"{generation}\n")
        (folder / "outblob").write_bytes(self._machine.report(data))
        endorsements = dict(self._machine.attest(data).endorsements)
        (folder / "auxblob").write_bytes(certificate_table(endorsements) if self._table is None else self._table)


def test_the_report_of_a_guest_is_believed_from_end_to_end(tmp_path: Path) -> None:
    machine = SnpMachine.make()
    attester = TsmAttester(PROVIDERS["sev-snp"], configfs=Kernel(tmp_path, machine))
    identity = Identity(attester, release_digest=RELEASE, model_id="m@1", now_s=lambda: NOW_S)
    claims = verify(identity.evidence(NONCE), machine.policy(), NOW_S, NONCE)
    assert claims.model_id == "m@1"
    assert list(tmp_path.iterdir()) == []  # nothing is left behind


def test_a_live_node_answers_a_client_that_believes_its_hardware_and_is_shown_why_first(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="leanto")
    machine = SnpMachine.make()
    attester = TsmAttester(PROVIDERS["sev-snp"], configfs=Kernel(tmp_path, machine))

    async def ask() -> str:
        hardware, clock = (attester, machine.policy()), Clock(wall=lambda: NOW_S)
        async with running_node(machine=hardware, now_s=clock.wall) as node, open_leg(node.target, clock=clock) as leg:
            assert (await leg.evidence()).evidence_type == "sev-snp"
            return text_of(await collect(leg, RemoteRequest("over and over", max_tokens=2)))

    assert asyncio.run(ask()) == " over and"
    assert [record.args[2] for record in caplog.records if record.name == "leanto" and isinstance(record.args, tuple)] == [
        "hardware",
        "measurement",
        "tcb",
        "key",
        "release",
        "model",
    ]


def test_a_report_that_another_writer_came_between_is_made_again(tmp_path: Path) -> None:
    kernel = Kernel(tmp_path, SnpMachine.make(), meddle=2)
    assert kernel.report("sev_guest", b"d" * 64).report[0x50:0x90] == b"d" * 64
    assert kernel.blocked == 1


def test_a_writer_that_never_stops_is_told_of(tmp_path: Path) -> None:
    with pytest.raises(AttestationError, match="keeps writing"):
        Kernel(tmp_path, SnpMachine.make(), meddle=99).report("sev_guest", bytes(64))
    assert list(tmp_path.iterdir()) == []


def test_another_kind_of_guest_than_was_asked_for_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AttestationError, match="made by tdx_guest, not by sev_guest"):
        TsmAttester(PROVIDERS["sev-snp"], configfs=Kernel(tmp_path, SnpMachine.make(), provider="tdx_guest"))


def test_a_machine_that_is_no_guest_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(AttestationError, match="confidential guest"):
        Configfs(tmp_path / "absent").report("sev_guest", bytes(64))


def test_endorsements_that_the_host_does_not_hand_over_come_from_a_folder(tmp_path: Path) -> None:
    machine = SnpMachine.make()
    kernel = Kernel(tmp_path / "tsm", machine, table=b"")
    (tmp_path / "tsm").mkdir()
    with pytest.raises(AttestationError, match="without ark, ask"):
        TsmAttester(PROVIDERS["sev-snp"], configfs=kernel)
    folder = tmp_path / "endorsements"
    folder.mkdir()
    for name, value in machine.attest(bytes(64)).endorsements.items():
        (folder / name).write_bytes(value)
    (folder / "notes.txt").write_text("not for clients")
    attester = TsmAttester(PROVIDERS["sev-snp"], configfs=kernel, endorsements=folder)
    assert attester.attest(bytes(64)).endorsements == machine.attest(bytes(64)).endorsements


def test_a_tdx_guest_needs_collateral_in_its_folder(tmp_path: Path) -> None:
    kernel = Kernel(tmp_path / "tsm", SnpMachine.make(), provider="tdx_guest", table=b"not a table of certificates")
    (tmp_path / "tsm").mkdir()
    with pytest.raises(AttestationError, match="collateral"):
        TsmAttester(PROVIDERS["tdx"], configfs=kernel)
    (tmp_path / "collateral").write_text("{}")
    assert TsmAttester(PROVIDERS["tdx"], configfs=kernel, endorsements=tmp_path).attest(bytes(64)).endorsements == {"collateral": b"{}"}


def test_a_certificate_table_is_read_as_hosts_write_it() -> None:
    entries = {"vcek": b"one", "ask": b"two", "ark": b"three"}
    assert parse_table(certificate_table(entries)) == entries
    assert parse_table(b"") == parse_table(bytes(4096)) == {}
    with pytest.raises(AttestationError, match="beyond its end"):
        parse_table(uuid.UUID(GUIDS["ask"]).bytes + struct.pack("<II", 4096, 1) + bytes(24))


def printing(text: str) -> str:
    """A command that prints what this Python makes, whatever it is asked."""
    return shlex.join([sys.executable, "-c", f"print({text})"])


@contextmanager
def asked(folder: Path, answer: Callable[[str], bytes]) -> Iterator[str]:
    """A command that passes its last argument on to `answer`, and prints what comes back."""
    path = str(folder / "service")
    client = "import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); s.sendall(sys.argv[2].encode())\n"
    client += "s.shutdown(socket.SHUT_WR); [sys.stdout.buffer.write(part) for part in iter(lambda: s.recv(65536), b'')]"

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.wfile.write(answer(self.rfile.read().decode()))

    with socketserver.UnixStreamServer(path, Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield shlex.join([sys.executable, "-c", client, path])
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize("as_nvattest", [False, True], ids=["a bundle", "as nvattest prints it"])
def test_the_word_of_a_program_on_the_gpus_is_believed_from_end_to_end(
    as_nvattest: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = NvidiaService.make(devices=2)
    machine = SnpMachine.make(nvidia=service)

    def answer(nonce: str) -> bytes:
        bundle = service.bundle(bytes.fromhex(nonce))
        conclusions = {"claims": [], "detached_eat": json.loads(bundle), "result_code": 0, "result_message": "Ok"}
        return json.dumps(conclusions).encode() if as_nvattest else bundle

    (tmp_path / "tsm").mkdir()
    (tmp_path / "nvidia").write_bytes(service.chain)
    kernel = Kernel(tmp_path / "tsm", replace(machine, nvidia=None))
    monkeypatch.setattr("leanto_cloud.attesters.tsm.Configfs", lambda: kernel)
    with asked(tmp_path, answer) as command:
        attester = make_attester("sev-snp", tmp_path, command)
        identity = Identity(attester, release_digest=RELEASE, model_id="m@1", now_s=lambda: NOW_S)
        evidence = identity.evidence(NONCE)
    claims = verify(evidence, machine.policy(nvidia=service.requirement(devices=2)), NOW_S, NONCE)
    assert "gpu" in [claim.name for claim in claims.claims]


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("/nonexistent", "cannot be run"),
        (shlex.join([sys.executable, "-c", "raise SystemExit(3)"]), "ended with code 3"),
        (shlex.join([sys.executable, "-c", "import time; time.sleep(60)"]), "says nothing"),
        (printing(""), "no detached bundle"),
        (printing("'[]'"), "no detached bundle"),
        (printing("""'{"detached_eat": {}}'"""), "no detached bundle"),
        (printing("'[' * 100_000"), "no detached bundle"),
        (printing("""'["' + 'x' * 200_000 + '"]'"""), "no detached bundle"),
    ],
    ids=["missing", "failing", "silent", "empty", "no bundle", "nothing detached", "deeply nested", "too long"],
)
def test_a_program_that_does_not_vouch_for_the_gpus_stops_the_node(
    command: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nvidia, "PROGRAM_S", 5.0)
    with pytest.raises(AttestationError, match=said):
        TsmAttester(PROVIDERS["sev-snp"], configfs=Kernel(tmp_path, SnpMachine.make()), nvidia_tokens=nvidia.nvidia_tokens(command))


def test_tokens_on_gpus_come_with_the_certificates_of_their_signer(tmp_path: Path) -> None:
    with pytest.raises(AttestationError, match="without nvidia"):
        TsmAttester(PROVIDERS["sev-snp"], configfs=Kernel(tmp_path, SnpMachine.make()), nvidia_tokens=lambda nonce: (b"[]",))


@pytest.mark.parametrize("arguments", [["--development"], ["--attester", "nitro"], ["--attester", "tdx"]], ids=str)
def test_a_program_for_gpus_that_cannot_stand_there_is_the_operators_mistake(arguments: list[str]) -> None:
    ended = serve(*arguments, "--nvidia-evidence", "true" if arguments[-1] != "tdx" else "'")
    assert ended.returncode == 2
    assert "--nvidia-evidence" in ended.stderr
    assert ended.stderr.count("\n") == 1


def test_the_document_of_an_enclave_is_believed_from_end_to_end() -> None:
    machine = NitroMachine.make()

    def module(request: bytes) -> bytes:
        asked = cbor2.loads(request)["Attestation"]
        assert asked.keys() == {"user_data", "nonce", "public_key"}
        return cbor2.dumps({"Attestation": {"document": machine.attest(asked["user_data"]).report}})

    identity = Identity(NitroAttester(module), release_digest=RELEASE, model_id="m@1", now_s=lambda: NOW_S)
    assert verify(identity.evidence(NONCE), machine.policy(), NOW_S, NONCE).evidence_type == "nitro"


NO_DOCUMENTS: list[object] = [
    {"Error": "InvalidArgument"},
    "no",
    {"Attestation": {"document": "a text"}},
    {"Attestation": {"document": 2**62}},
]


@pytest.mark.parametrize("answer", [b"", b"\xff", *map(cbor2.dumps, NO_DOCUMENTS)], ids=bytes.hex)
def test_a_module_that_gives_no_document_stops_the_node(answer: bytes) -> None:
    with pytest.raises(AttestationError, match="gives no document"):
        NitroAttester(lambda request: answer)


def test_a_machine_that_is_no_enclave_is_told_so() -> None:
    if Path("/dev/nsm").exists():
        pytest.skip("this machine is an enclave")
    with pytest.raises(AttestationError, match="is this a Nitro enclave"):
        NitroAttester()


def serve(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "leanto_cloud", "serve", *arguments], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("arguments", [[], ["--development", "--attester", "tdx"]], ids=str)
def test_a_node_starts_with_exactly_one_attester(arguments: list[str]) -> None:
    ended = serve(*arguments)
    assert ended.returncode == 2
    assert "no attester, or two" in ended.stderr


def test_a_node_that_cannot_attest_never_falls_back_to_development_evidence() -> None:
    if Path("/sys/kernel/config/tsm/report").exists():
        pytest.skip("this machine can attest")
    ended = serve("--attester", "sev-snp")
    assert ended.returncode == 1
    assert "confidential guest" in ended.stderr
