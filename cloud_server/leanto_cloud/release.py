"""What this node runs, as one statement: all code that is installed here, file by file, the model, and what the node was told.

The same installation gives the same bytes. Knows nothing of who vouches for them.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import sys
from collections.abc import Iterable, Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path

from google.protobuf.message import DecodeError

from leanto_cloud.errors import ConfigurationError
from leanto_wire.errors import LogError
from leanto_wire.log.checkpoint import parse_checkpoint
from leanto_wire.v1.private_compute_pb2 import ReleaseProof

PACKAGES = ("leanto_cloud", "leanto_wire", "leanto_edge", "leanto_kernels")
_NOT_HERE = (*PACKAGES, "leanto")  # ours are measured where they lie, and a node has no use for the sdk
_SITES = ("site-packages", "dist-packages")
_SUFFIXES = (".py", ".pyc", ".pth", ".so", ".pyd", ".dll", ".dylib", ".zip", ".egg")
_NAMED = 6  # differences


def statement(model_id: str, configuration: Mapping[str, object]) -> bytes:
    """Canonical JSON; a release digest is its SHA-256. `configuration` is what serve_options makes of the options. Raises OSError."""
    content = {
        "format": 2,
        "model_id": model_id,
        "configuration": dict(configuration),
        "python": platform.python_version(),
        "sources": _digest(line for package in PACKAGES for line in _package(package)),
        **_installed(),
    }
    return json.dumps(content, sort_keys=True, separators=(",", ":")).encode()


def release(model_id: str, configuration: Mapping[str, object], proof: Path | None = None) -> tuple[bytes, str, ReleaseProof | None]:
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
        differing = f" ({names})" if (names := differences(found.release, measured)) else ""
        raise ConfigurationError(
            f"{proof}: it was made for another installation, model or configuration than this one{differing}: release again"
        )
    return hashlib.sha256(measured).digest(), origin, found


def differences(one: bytes, other: bytes) -> str:
    """Where two statements differ, in a few words; empty if one of them is none."""
    try:
        documents = json.loads(one), json.loads(other)
    except (ValueError, RecursionError):
        return ""
    if not all(isinstance(document, dict) for document in documents):
        return ""
    found = [*_differing(*documents)]
    return ", ".join(found[:_NAMED]) + (", …" if len(found) > _NAMED else "")


def _differing(one: dict[str, object], other: dict[str, object]) -> Iterator[str]:
    for name in sorted(one.keys() | other.keys()):
        here, there = one.get(name), other.get(name)
        if isinstance(here, dict) and isinstance(there, dict):
            yield from (f"{name}: {part}" for part in _differing(here, there))
        elif here != there:
            yield name


def _package(name: str) -> Iterator[str]:
    """Our own packages, as they lie there."""
    spec = find_spec(name)
    for folder in spec.submodule_search_locations or () if spec else ():
        yield from _lines(Path(folder), name)


def _installed() -> dict[str, object]:
    """Every other folder and file that Python finds installed, by what is in it now: a wheel's own list would not tell of a change."""
    distributions: set[str] = set()
    lines: dict[str, list[str]] = {}
    sites = [Path(entry) for entry in sys.path if Path(entry).name in _SITES and Path(entry).is_dir()]
    for number, site in enumerate(sites):
        for top in site.iterdir():
            if top.suffix in (".dist-info", ".egg-info"):
                distributions.add(top.stem)
            if top.name not in _NOT_HERE:
                lines.setdefault(top.name, []).extend(_lines(top, f"{number}/{top.name}"))
    return {"distributions": sorted(distributions), "installed": {name: _digest(found) for name, found in lines.items() if found}}


def _lines(top: Path, name: str) -> Iterator[str]:
    """A line for each file of code in `top`, or for `top` itself: its name and SHA-256. Caches of bytecode hold times."""
    if top.is_file() and _is_code(top.name):
        yield f"{name} {_hash(top)}\n"
    for folder, folders, files in os.walk(top, followlinks=True):
        folders[:] = [each for each in folders if each != "__pycache__"]
        for file in filter(_is_code, files):
            path = os.path.join(folder, file)
            yield f"{name}{path.removeprefix(str(top))} {_hash(path)}\n"


def _is_code(name: str) -> bool:
    """Whether Python, or the linker, would run it; a distribution's entry points name what is to be run."""
    return name.endswith(_SUFFIXES) or ".so." in name or name == "entry_points.txt"


def _digest(lines: Iterable[str]) -> str:
    return hashlib.sha256("".join(sorted(lines)).encode(errors="surrogateescape")).hexdigest()


def _hash(path: str | Path) -> str:
    found = hashlib.sha256()
    with open(path, "rb", buffering=0) as file:
        while part := file.read(1 << 20):
            found.update(part)
    return found.hexdigest()
