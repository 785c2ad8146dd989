"""The files of an artifact: their names, hashes and sizes as leanto.json lists them, and JSON that is read with suspicion.

Knows nothing of what the weight file holds.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from leanto_edge.artifact.layout import FORMAT
from leanto_edge.errors import ArtifactError, UnsupportedModelError

MANIFEST = "leanto.json"
CONFIG = "config.json"
WEIGHTS = "model.safetensors"
TOKENIZER = "tokenizer.json"
TOKENIZER_CONFIG = "tokenizer_config.json"
OPTIONAL_FILES = (TOKENIZER_CONFIG, "special_tokens_map.json", "generation_config.json", "calls.json")
DERIVED = ("format", "build_hash", "parameters", "stored_bytes", "bits_per_weight", "files")  # follow from the files

AGAIN = "fetch the artifact again"
_SMALL_BYTES = 16 << 20  # more than any JSON file of an artifact needs, and many times that in memory
_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_FIELDS: dict[str, type | tuple[type, ...]] = {
    "name": str,
    "build_hash": str,
    "files": dict,
    "parameters": int,
    "stored_bytes": int,
    "bits_per_weight": (int, float),
}


def read_manifest(path: Path) -> dict[str, Any]:
    """leanto.json of the artifact at `path`, its fields checked but not the files it lists. Raises ArtifactError."""
    manifest = read_json(path / MANIFEST)
    if manifest.get("format") != FORMAT:
        found = manifest.get("format")
        raise ArtifactError(path, f"has format {found!r:.40}, this leanto reads {FORMAT}; compress the model again or change the version")
    for key, kind in _FIELDS.items():
        if not isinstance(manifest.get(key), kind) or isinstance(manifest[key], bool):
            raise ArtifactError(path / MANIFEST, f"has no usable {key!r}; {AGAIN}")
    if not manifest["name"].isprintable() or len(manifest["name"]) > 100:
        raise ArtifactError(path / MANIFEST, f"has a name that is not one printable line; {AGAIN}")
    if not isinstance(manifest.get("confidence", {}), dict):
        raise ArtifactError(path / MANIFEST, f"has no usable 'confidence'; {AGAIN}")
    certificates = manifest.get("certificates", [])
    if not isinstance(certificates, list) or not all(isinstance(one, dict) for one in certificates):
        raise ArtifactError(path / MANIFEST, f"has no usable 'certificates'; {AGAIN}")
    quality = manifest.get("quality", {})
    if not isinstance(quality, dict) or not isinstance(quality.get("fit", True), bool):
        raise ArtifactError(path / MANIFEST, f"has no usable 'quality'; {AGAIN}")
    for name, entry in manifest["files"].items():
        safe_name(path, name)
        if not isinstance(entry, dict) or not isinstance(entry.get("sha256"), str) or type(entry.get("bytes")) is not int:
            raise ArtifactError(path / MANIFEST, f"does not describe {name}; {AGAIN}")
    for name in (CONFIG, WEIGHTS, TOKENIZER):
        if name not in manifest["files"]:
            raise ArtifactError(path / MANIFEST, f"does not list {name}; {AGAIN}")
    return manifest


def describe_plain(path: Path) -> dict[str, Any]:
    """The manifest that a plain Hugging Face folder would have, as far as its files tell. Raises ArtifactError."""
    if (path / f"{WEIGHTS}.index.json").exists():
        raise UnsupportedModelError(path, "is split into several weight files; run `leanto compress` on it instead")
    required = (CONFIG, WEIGHTS, TOKENIZER)
    present = [name for name in (*required, *OPTIONAL_FILES) if name in required or (path / name).exists()]
    files = {name: fingerprint(path / name) for name in sorted(present)}
    stored = sum(entry["bytes"] for entry in files.values())
    return {"format": FORMAT, "name": path.resolve().name, "profile": "dense", "files": files, "stored_bytes": stored}


def verify_files(path: Path, manifest: Mapping[str, Any]) -> None:
    """Raise ArtifactError unless every listed file has its size and its hash, and the build hash is theirs."""
    for name, entry in manifest["files"].items():
        size = _regular(path / name).st_size
        if size != entry["bytes"]:
            raise ArtifactError(path / name, f"has {size} bytes instead of {entry['bytes']}; {AGAIN}")
        if fingerprint(path / name)["sha256"] != entry["sha256"]:
            raise ArtifactError(path / name, f"does not match its SHA-256, it was changed or damaged; {AGAIN}")
    if build_hash_of(manifest["files"]) != manifest["build_hash"]:
        raise ArtifactError(path / MANIFEST, f"has a build hash that does not match its files; {AGAIN}")


def build_hash_of(files: Mapping[str, Mapping[str, Any]]) -> str:
    """Hash of a build: SHA-256 (hex) over the canonical JSON of {file name: its SHA-256}."""
    hashes = {name: entry["sha256"] for name, entry in files.items()}
    return hashlib.sha256(json.dumps(hashes, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def fingerprint(path: Path) -> dict[str, Any]:
    """SHA-256 (hex) and size of a plain file. Raises ArtifactError."""
    _regular(path)
    try:
        with path.open("rb") as file:
            return {"sha256": hashlib.file_digest(file, "sha256").hexdigest(), "bytes": os.fstat(file.fileno()).st_size}
    except OSError as error:
        raise ArtifactError(path, f"cannot be read ({error.strerror}); {AGAIN}") from None


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object of at most 16 MiB. Raises ArtifactError."""
    try:
        value = json.loads(read_small(path))
    except (ValueError, RecursionError):
        raise ArtifactError(path, f"is not readable JSON; {AGAIN}") from None
    if not isinstance(value, dict):
        raise ArtifactError(path, f"is not a JSON object; {AGAIN}")
    return value


def read_small(path: Path) -> bytes:
    """The content of a plain file of at most 16 MiB. Raises ArtifactError."""
    if _regular(path).st_size > _SMALL_BYTES:
        raise ArtifactError(path, f"is larger than {_SMALL_BYTES >> 20} MiB; {AGAIN}")
    try:
        return path.read_bytes()
    except OSError as error:
        raise ArtifactError(path, f"cannot be read ({error.strerror}); {AGAIN}") from None


def as_json(value: object) -> bytes:
    """`value` as the artifact's JSON files hold it."""
    return (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode()


def safe_name(path: Path, name: str) -> str:
    """`name` if it can only be a file in the artifact's own directory. Raises ArtifactError."""
    if not _FILE_NAME.fullmatch(name) or name == MANIFEST:
        raise ArtifactError(path, f"names a file {name[:100]!r} that may not be part of an artifact; {AGAIN}")
    return name


def _regular(path: Path) -> os.stat_result:
    try:
        found = path.stat()
    except OSError:
        raise ArtifactError(path, f"is missing; {AGAIN}") from None
    if not stat.S_ISREG(found.st_mode):
        raise ArtifactError(path, f"is not a plain file; {AGAIN}")
    return found
