"""What a release statement covers: every file of code as it lies there, and every option that decides what a node does."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from leanto_cloud import serve_options
from leanto_cloud.release import differences, statement
from mint import key_file

LOCAL = {  # options that do not change what a release is
    "host",
    "port",
    "ready_file",
    "release_proof",
    "tls_certificate",
    "tls_key",
    "token_store",
    "model",  # the model's own id is measured
    "development",  # evidence says itself of which type it is
    "attester",
    "endorsements",
    "nvidia_evidence",
}


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installation of one distribution, in the place of the real ones."""
    folder = tmp_path / "site-packages"
    for name, content in {
        "grpc/__init__.py": "served = True\n",
        "grpc/_cython/cygrpc.so": "native",
        "grpc.libs/libz.so.1": "library",
        "grpcio-1.85.0.dist-info/RECORD": "grpc/__init__.py,sha256=abc,14\n",
    }.items():
        write(folder / name, content)
    monkeypatch.setattr(sys, "path", [*(entry for entry in sys.path if Path(entry).name != "site-packages"), str(folder)])
    return folder


def write(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


def changed(act: Callable[[], object]) -> str:
    """Where a statement differs after `act`."""
    before = statement("m@1", {})
    act()
    return differences(before, statement("m@1", {}))


@pytest.mark.parametrize("name", ["grpc/__init__.py", "grpc/_cython/cygrpc.so", "grpc.libs/libz.so.1"])
def test_a_file_of_another_distribution_that_was_edited_is_another_release_whatever_its_record_says(site: Path, name: str) -> None:
    assert changed(lambda: (site / name).write_text("served = False")) == f"installed: {name.split('/')[0]}"


@pytest.mark.parametrize(
    "name",
    ["evil.py", "evil.pth", "evil.pyc", "evil/__init__.py", "grpc/evil.py", "grpc/evil.pyc", "grpc/a/b.cpython-311.so", "grpc/libx.so.2"],
)
def test_a_file_that_no_distribution_brought_is_another_release(site: Path, name: str) -> None:
    assert changed(lambda: write(site / name, "")) == f"installed: {name.split('/')[0]}"


def test_a_file_that_is_missing_is_another_release(site: Path) -> None:
    assert changed((site / "grpc/__init__.py").unlink) == "installed: grpc"


def test_another_version_is_named(site: Path) -> None:
    assert changed(lambda: (site / "grpcio-1.85.0.dist-info").rename(site / "grpcio-1.86.0.dist-info")) == "distributions"


def test_what_an_entry_point_names_is_part_of_the_release(site: Path) -> None:
    assert changed(lambda: write(site / "grpcio-1.85.0.dist-info/entry_points.txt", "[x]\ny = z\n")).startswith("installed")


@pytest.mark.parametrize("name", ["grpc/__pycache__/x.cpython-311.pyc", "grpcio-1.85.0.dist-info/INSTALLER", "grpc/notes.txt"])
def test_what_an_installer_or_a_run_leaves_behind_is_the_same_release(site: Path, name: str) -> None:
    assert changed(lambda: write(site / name, "")) == ""


def test_the_same_files_elsewhere_are_the_same_release(site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def move() -> None:
        (tmp_path / "elsewhere").mkdir()
        site.rename(tmp_path / "elsewhere/site-packages")
        monkeypatch.setattr(sys, "path", [*sys.path[:-1], str(tmp_path / "elsewhere/site-packages")])

    assert changed(move) == ""


def parsed(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    serve_options.add_local(parser)
    serve_options.add_measured(parser)
    return parser.parse_args(arguments)


def test_every_option_of_a_node_is_measured_or_known_to_change_nothing() -> None:
    assert vars(parsed()).keys() - serve_options.configuration(parsed()).keys() == LOCAL


@pytest.mark.parametrize(
    "arguments",
    [
        ("--engine", "transformers"),
        ("--reflection",),
        ("--suite", "2"),
        ("--tls-client-ca", "ca.pem"),
        ("--token-origin", "node.example"),
        ("--running", "3"),
        ("--waiting", "3"),
        ("--per-tenant", "1"),
        ("--recycle-after", "9"),
        ("--recycle-every", "9"),
        ("--drain", "9"),
    ],
    ids=lambda arguments: arguments[0],
)
def test_an_option_that_decides_what_a_node_does_is_another_release(arguments: tuple[str, ...]) -> None:
    before, after = (json.dumps({"configuration": serve_options.configuration(parsed(*given))}).encode() for given in ((), arguments))
    assert differences(before, after) == "configuration: " + arguments[0].removeprefix("--").replace("-", "_")


def test_of_an_issuer_its_name_is_measured_and_not_the_keys_that_it_rotates(tmp_path: Path) -> None:
    (tmp_path / "directory").write_bytes(key_file().directory)
    found = serve_options.configuration(parsed("--token-issuer", str(tmp_path / "directory")))
    assert found["token_issuer"] == key_file().issuer


def test_the_statement_is_canonical_and_small_enough_for_a_log() -> None:
    made = statement("m@1", serve_options.configuration(parsed()))
    assert json.dumps(json.loads(made), sort_keys=True, separators=(",", ":")).encode() == made
    assert len(made) < 65_535


@pytest.mark.parametrize("raw", [b"", b"[]", b"\xff", b"[" * 100_000, b"7"])
def test_what_is_no_statement_differs_from_one_without_a_word(raw: bytes) -> None:
    assert differences(raw, b"{}") == ""
