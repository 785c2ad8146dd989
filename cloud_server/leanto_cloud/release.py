"""What this node runs, as one statement: the packages' own files, every other distribution that is installed, the model, the configuration.

The same installation gives the same bytes. Knows nothing of who vouches for them.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Iterable
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from google.protobuf.message import DecodeError

from leanto_cloud.errors import ConfigurationError
from leanto_wire.errors import LogError
from leanto_wire.log.checkpoint import parse_checkpoint
from leanto_wire.v1.private_compute_pb2 import ReleaseProof

PACKAGES = ("leanto_cloud", "leanto_wire", "leanto_edge", "leanto_kernels")


def statement(model_id: str, configuration: Path | None = None) -> bytes:
    """Canonical JSON; a release digest is its SHA-256. Raises OSError for a configuration that cannot be read."""
    content = {
        "format": 1,
        "model_id": model_id,
        "configuration": None if configuration is None else _hash(configuration.read_bytes()),
        "python": platform.python_version(),
        "sources": _hash(_lines(_sources())),
        "distributions": {name: _hash(_lines(files)) for name, files in sorted(_distributions())},
    }
    return json.dumps(content, sort_keys=True, separators=(",", ":")).encode()


def release(model_id: str, configuration: Path | None = None, proof: Path | None = None) -> tuple[bytes, str, ReleaseProof | None]:
    """Release digest (32 bytes) of what is installed here, and, with the file that `leanto-cloud release` wrote for just that, the log's
    name and the proof to show. Raises ConfigurationError.
    """
    try:
        measured = statement(model_id, configuration)
        found = ReleaseProof.FromString(proof.read_bytes()) if proof else None
        origin = parse_checkpoint(found.checkpoint)[0].origin if found else ""
    except OSError as error:
        raise ConfigurationError(f"{error.filename}: cannot be read: {error.strerror}") from None
    except (DecodeError, LogError):
        raise ConfigurationError(f"{proof}: not a release proof; `leanto-cloud release` writes one") from None
    if found is not None and found.release != measured:
        raise ConfigurationError(f"{proof}: it was made for another installation, model or configuration than this one: release again")
    return hashlib.sha256(measured).digest(), origin, found


def _sources() -> Iterable[tuple[str, str]]:
    """Our own packages, file by file, as they lie there: an editable installation has no list of them."""
    for package in PACKAGES:
        spec = find_spec(package)
        for folder in spec.submodule_search_locations or () if spec else ():
            for path in sorted(Path(folder).rglob("*")):
                if path.suffix in (".py", ".so", ".pyd") and path.is_file():
                    yield f"{package}/{path.relative_to(folder).as_posix()}", _hash(path.read_bytes())


def _distributions() -> Iterable[tuple[str, Iterable[tuple[str, str]]]]:
    """Every other installed distribution, by the hashes that its wheel recorded; what an installer added is left out."""
    for found in metadata.distributions():
        name = found.metadata["Name"]
        if name and name.lower() != "leanto":
            recorded = [(file.as_posix(), file.hash.value) for file in found.files or () if file.hash and _of_the_wheel(file.as_posix())]
            yield f"{name.lower()} {found.version}", recorded


def _of_the_wheel(name: str) -> bool:
    return not name.startswith("../") and ".dist-info/" not in name and not name.endswith(".pyc")


def _lines(files: Iterable[tuple[str, str]]) -> bytes:
    return "".join(f"{name} {value}\n" for name, value in sorted(files)).encode()


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
