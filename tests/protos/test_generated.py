"""The committed protobuf code is what the .proto files generate."""

from __future__ import annotations

import importlib.util
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

PROTOS = Path(__file__).resolve().parents[2] / "protos"
COMMITTED = PROTOS / "leanto_wire" / "v1"


def test_generated_code_is_committed_as_it_comes_out(tmp_path: Path) -> None:
    pytest.importorskip("grpc_tools", reason="grpcio-tools is absent (pip install 'leanto[dev]')")
    try:
        version("mypy-protobuf")
    except PackageNotFoundError:
        pytest.skip("mypy-protobuf is absent (pip install 'leanto[dev]')")
    made_with = f"GRPC_GENERATED_VERSION = '{version('grpcio-tools')}'"
    if made_with not in (COMMITTED / "private_compute_pb2_grpc.py").read_text():
        pytest.skip(f"the committed code was made by another grpcio-tools than {version('grpcio-tools')}")
    spec = importlib.util.spec_from_file_location("generate", PROTOS / "generate.py")
    assert spec
    assert spec.loader
    generator = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generator)
    generator.generate(tmp_path)
    made = {path.name: path.read_text() for path in (tmp_path / "leanto_wire" / "v1").iterdir()}
    committed = {path.name: path.read_text() for path in COMMITTED.iterdir() if "_pb2" in path.name and path.suffix in (".py", ".pyi")}
    assert made == committed
