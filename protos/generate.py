"""Generates the protobuf and gRPC code with its type stubs: `python protos/generate.py [OUT]`.

Needs grpcio-tools 1.78 and mypy-protobuf; the generated code is committed. Knows nothing of what the messages mean.
"""

from __future__ import annotations

import sys
from importlib import resources
from pathlib import Path

ROOT = Path(__file__).resolve().parent
PACKAGE = ROOT / "leanto_wire" / "v1"


def generate(out: Path) -> None:
    """Write `leanto_wire/v1/*_pb2*.py[i]` under `out`. Raises RuntimeError if protoc refuses a file."""
    from grpc_tools import protoc

    well_known = str(resources.files("grpc_tools") / "_proto")
    plugins = Path(sys.executable).parent
    files = sorted(str(path.relative_to(ROOT)) for path in PACKAGE.glob("*.proto"))
    services = [name for name in files if "service " in (ROOT / name).read_text()]
    common = ["protoc", f"-I{ROOT}", f"-I{well_known}"]
    messages = [f"--plugin=protoc-gen-mypy={plugins / 'protoc-gen-mypy'}", f"--python_out={out}", f"--mypy_out={out}"]
    grpc = [f"--plugin=protoc-gen-mypy_grpc={plugins / 'protoc-gen-mypy_grpc'}", f"--grpc_python_out={out}", f"--mypy_grpc_out={out}"]
    for arguments in ([*common, *messages, *files], [*common, *grpc, *services]):
        if protoc.main(arguments) != 0:
            raise RuntimeError(f"protoc refused one of {', '.join(files)}; see its message above")


if __name__ == "__main__":
    generate(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT)
