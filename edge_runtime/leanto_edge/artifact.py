"""Reads and writes the artifact: a directory with a model, its tokenizer and a manifest of hashes (docs/format.md).

Reading verifies everything before it returns and maps the weights in place; writing makes the whole directory appear at once.
Knows nothing of compression and of arithmetic, and never unpickles.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from leanto_edge.architecture import ModelShape
from leanto_edge.errors import ArtifactError, UnsupportedModelError
from leanto_edge.layout import (
    BLOCK,
    FORMAT,
    WINDOW,
    MatrixSpec,
    check_matrices,
    expected_tensors,
    matrix_sizes,
    norm_names,
)
from leanto_edge.tensor_file import Array, TensorFile

MANIFEST = "leanto.json"
CONFIG = "config.json"
WEIGHTS = "model.safetensors"
TOKENIZER = "tokenizer.json"
OPTIONAL_FILES = ("tokenizer_config.json", "special_tokens_map.json", "generation_config.json", "calls.json")

_JSON_LIMIT_BYTES = 16 << 20
_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_AGAIN = "fetch the artifact again"


@dataclass(frozen=True, slots=True)
class Artifact:
    """A verified model directory. `tensors` are read-only views of the mapped file; `matrices` says how each one is stored."""

    path: Path
    config: Mapping[str, Any]
    shape: ModelShape
    matrices: Mapping[str, Mapping[str, Any]]
    tensors: Mapping[str, Array]
    manifest: Mapping[str, Any]
    build_hash: str

    def has(self, name: str) -> bool:
        """Whether the file `name` belongs to the artifact."""
        return name in self.manifest["files"]


def read_artifact(path: str | Path) -> Artifact:
    """Verify and map the artifact at `path`; a plain Hugging Face Llama folder (no leanto.json) reads as all-dense float32.

    Raises ArtifactError, or UnsupportedModelError for sound files that this version cannot run.
    """
    path = Path(path)
    if not path.is_dir():
        raise ArtifactError(path, "is not a model directory; check the path, or make one with `leanto compress`")
    plain = not (path / MANIFEST).exists()
    manifest = _describe_plain(path) if plain else _read_manifest(path)
    build_hash = build_hash_of(manifest["files"])
    if not plain:
        _verify_files(path, manifest, build_hash)
    config = _read_json(path / CONFIG)
    shape = ModelShape.from_config(path, config)
    weights = TensorFile(path / WEIGHTS)
    matrices = _dense_matrices(path, shape, config) if plain else _quantized_matrices(path, shape, config)
    tensors = _model_tensors(weights, shape, matrices, strict=not plain)
    if plain:
        parameters = sum(tensor.size for tensor in tensors.values())
        manifest |= {"parameters": parameters, "bits_per_weight": 8 * manifest["files"][WEIGHTS]["bytes"] / parameters}
    described = {name: matrix.as_dict() for name, matrix in matrices.items()}
    return Artifact(path, config, shape, described, tensors, manifest, build_hash)


def write_artifact(
    out: str | Path,
    config: Mapping[str, Any],
    matrices: Mapping[str, MatrixSpec],
    tensors: Mapping[str, Array],
    files: Mapping[str, bytes],
    metadata: Mapping[str, Any],
) -> Artifact:
    """Write an artifact to `out`, which must not exist and appears whole or not at all.

    `config`: the Hugging Face config; `files`: tokenizer.json and other small files by name; `metadata`: further fields of leanto.json
    (name, profile, quality, ...). What was written is read back and verified before it gets its name. Raises ArtifactError.
    """
    out = Path(out)
    if out.exists():
        raise ArtifactError(out, "already exists; remove it or choose another place")
    block = {"quant_method": "leanto", "format": FORMAT, "window": WINDOW, "block": BLOCK}
    block["matrices"] = {name: matrix.as_dict() for name, matrix in matrices.items()}
    parameters = sum(matrix.rows * matrix.cols for matrix in matrices.values())
    parameters += sum(tensors[name].size for name in norm_names(ModelShape.from_config(out, config)))
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    except OSError as error:
        raise ArtifactError(out, f"cannot be written ({error.strerror}); choose another place") from None
    try:
        _write(draft / CONFIG, _pretty({**config, "quantization_config": block}))
        save_file({name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}, draft / WEIGHTS, {"format": "pt"})
        for name, content in files.items():
            _write(draft / _safe_name(out, name), content)
        listed = {file.name: _fingerprint(file) for file in sorted(draft.iterdir())}
        stored = sum(entry["bytes"] for entry in listed.values())
        manifest = {"name": out.name, **metadata, "format": FORMAT, "build_hash": build_hash_of(listed), "parameters": parameters}
        manifest |= {"stored_bytes": stored, "bits_per_weight": 8 * listed[WEIGHTS]["bytes"] / parameters, "files": listed}
        _write(draft / MANIFEST, _pretty(manifest))
        read_artifact(draft)
        _sync(draft)
        draft.chmod(0o755)
        draft.rename(out)
        _sync(out.parent)
    except OSError as error:
        raise ArtifactError(out, f"cannot be written ({error.strerror}); free some space or choose another place") from None
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return read_artifact(out)


def annotate_artifact(path: str | Path, **fields: Any) -> None:
    """Replace fields of leanto.json that no hash covers (name, quality, confidence, certificates), atomically. Raises ArtifactError."""
    path = Path(path)
    fixed = sorted(set(fields) & {"format", "build_hash", "parameters", "stored_bytes", "bits_per_weight", "files"})
    if fixed:
        raise ValueError(f"{fixed[0]} follows from the files and cannot be set")
    manifest = {**_read_manifest(path), **fields}
    draft = path / f".{MANIFEST}.{os.getpid()}"
    try:
        _write(draft, _pretty(manifest))
        draft.replace(path / MANIFEST)
    finally:
        draft.unlink(missing_ok=True)


def build_hash_of(files: Mapping[str, Mapping[str, Any]]) -> str:
    """Hash of the build: SHA-256 (hex) over the canonical JSON of {file name: its SHA-256}."""
    return hashlib.sha256(_canonical({name: entry["sha256"] for name, entry in files.items()})).hexdigest()


def _read_manifest(path: Path) -> dict[str, Any]:
    manifest = _read_json(path / MANIFEST)
    if manifest.get("format") != FORMAT:
        found = manifest.get("format")
        raise ArtifactError(path, f"has format {found!r}, this leanto reads {FORMAT}; compress the model again or change the version")
    wanted = {"name": str, "build_hash": str, "files": dict, "parameters": int, "stored_bytes": int, "bits_per_weight": (int, float)}
    for key, kind in wanted.items():
        if not isinstance(manifest.get(key), kind):
            raise ArtifactError(path / MANIFEST, f"has no usable {key!r}; {_AGAIN}")
    for name, entry in manifest["files"].items():
        _safe_name(path, name)
        if not isinstance(entry, dict) or not isinstance(entry.get("sha256"), str) or type(entry.get("bytes")) is not int:
            raise ArtifactError(path / MANIFEST, f"does not describe {name}; {_AGAIN}")
    for name in (CONFIG, WEIGHTS, TOKENIZER):
        if name not in manifest["files"]:
            raise ArtifactError(path / MANIFEST, f"does not list {name}; {_AGAIN}")
    return manifest


def _describe_plain(path: Path) -> dict[str, Any]:
    """The manifest that a plain Hugging Face folder would have, sizes and hashes included."""
    if (path / f"{WEIGHTS}.index.json").exists():
        raise UnsupportedModelError(path, "is split into several weight files; run `leanto compress` on it instead")
    for name in (CONFIG, WEIGHTS, TOKENIZER):
        _regular(path / name)
    present = [name for name in (CONFIG, WEIGHTS, TOKENIZER, *OPTIONAL_FILES) if (path / name).exists()]
    files = {name: _fingerprint(path / name) for name in sorted(present)}
    stored = sum(entry["bytes"] for entry in files.values())
    return {"format": FORMAT, "name": path.resolve().name, "profile": "dense", "files": files, "stored_bytes": stored}


def _verify_files(path: Path, manifest: Mapping[str, Any], build_hash: str) -> None:
    for name, entry in manifest["files"].items():
        size = _regular(path / name).st_size
        if size != entry["bytes"]:
            raise ArtifactError(path / name, f"has {size} bytes instead of {entry['bytes']}; {_AGAIN}")
        if _fingerprint(path / name) != {"sha256": entry["sha256"], "bytes": size}:
            raise ArtifactError(path / name, f"does not match its SHA-256, it was changed or damaged; {_AGAIN}")
    if build_hash != manifest["build_hash"]:
        raise ArtifactError(path / MANIFEST, f"has a build hash that does not match its files; {_AGAIN}")


def _quantized_matrices(path: Path, shape: ModelShape, config: Mapping[str, Any]) -> dict[str, MatrixSpec]:
    block = config.get("quantization_config")
    if not isinstance(block, dict) or block.get("quant_method") != "leanto":
        method = block.get("quant_method") if isinstance(block, dict) else None
        raise UnsupportedModelError(path / CONFIG, f"has quant_method {method!r}, this engine reads 'leanto'; compress the original model")
    for key, value in (("format", FORMAT), ("window", WINDOW), ("block", BLOCK)):
        if block.get(key) != value:
            raise ArtifactError(path / CONFIG, f"has {key} {block.get(key)!r}, this leanto reads {value}; compress the model again")
    entries = block.get("matrices")
    if not isinstance(entries, dict):
        raise ArtifactError(path / CONFIG, f"describes no matrices; {_AGAIN}")
    matrices: dict[str, MatrixSpec] = {}
    for name, entry in entries.items():
        try:
            matrices[name] = MatrixSpec.from_json(entry)
        except ValueError as error:
            raise ArtifactError(path / CONFIG, f"describes {name[:100]!r} wrongly: {error}; {_AGAIN}") from None
    try:
        check_matrices(shape, matrices)
    except ValueError as error:
        raise ArtifactError(path / CONFIG, f"does not fit its model: {error}; {_AGAIN}") from None
    return matrices


def _dense_matrices(path: Path, shape: ModelShape, config: Mapping[str, Any]) -> dict[str, MatrixSpec]:
    if config.get("quantization_config"):
        raise UnsupportedModelError(path / CONFIG, "is quantized by another tool; start from the original model")
    return {name: MatrixSpec("dense", 32, rows, cols) for name, (rows, cols) in matrix_sizes(shape).items()}


def _model_tensors(weights: TensorFile, shape: ModelShape, matrices: Mapping[str, MatrixSpec], *, strict: bool) -> dict[str, Array]:
    """The tensors that the engine wants, checked; dense weights and norms as float32. `strict`: nothing else may be in the file."""
    expected = expected_tensors(shape, matrices)
    extra = sorted(set(weights) - set(expected))
    if strict and extra:
        raise ArtifactError(weights.path, f"holds an unknown tensor {extra[0][:100]!r}; {_AGAIN}")
    tensors: dict[str, Array] = {}
    for name, spec in expected.items():
        if name not in weights:
            raise ArtifactError(weights.path, f"lacks the tensor {name}; {_AGAIN}")
        if weights[name].shape != spec.shape or weights.dtypes[name] not in spec.dtypes:
            found = f"{weights.dtypes[name]} {list(weights[name].shape)}"
            raise ArtifactError(
                weights.path, f"holds {name} as {found} instead of {'/'.join(sorted(spec.dtypes))} {list(spec.shape)}; {_AGAIN}"
            )
        dense = name.endswith(".weight")
        tensors[name] = weights.as_float32(name) if dense else weights[name]
        if not dense:
            _check_values(weights.path, name, tensors[name])
    return tensors


def _check_values(path: Path, name: str, tensor: Array) -> None:
    """Refuse numbers on which the kernels' arithmetic would overflow or turn into NaN."""
    if tensor.dtype.kind == "f" and not np.isfinite(tensor).all():
        raise ArtifactError(path, f"holds a number in {name} that is not finite; {_AGAIN}")
    if name.endswith(".tables") and np.abs(np.add.outer(tensor[0].astype(int), tensor[1].astype(int))).max() > 127:
        raise ArtifactError(path, f"holds tables in {name} whose sums leave [-127, 127]; {_AGAIN}")


def _safe_name(path: Path, name: str) -> str:
    if not _FILE_NAME.fullmatch(name) or name == MANIFEST:
        raise ArtifactError(path, f"names a file {name[:100]!r} that may not be part of an artifact; {_AGAIN}")
    return name


def _regular(path: Path) -> os.stat_result:
    try:
        found = path.stat()
    except OSError:
        raise ArtifactError(path, f"is missing; {_AGAIN}") from None
    if not stat.S_ISREG(found.st_mode):
        raise ArtifactError(path, f"is not a plain file; {_AGAIN}")
    return found


def _read_json(path: Path) -> dict[str, Any]:
    if _regular(path).st_size > _JSON_LIMIT_BYTES:
        raise ArtifactError(path, f"is larger than {_JSON_LIMIT_BYTES >> 20} MiB; {_AGAIN}")
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        raise ArtifactError(path, f"is not readable JSON; {_AGAIN}") from None
    if not isinstance(value, dict):
        raise ArtifactError(path, f"is not a JSON object; {_AGAIN}")
    return value


def _fingerprint(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            return {"sha256": hashlib.file_digest(file, "sha256").hexdigest(), "bytes": os.fstat(file.fileno()).st_size}
    except OSError as error:
        raise ArtifactError(path, f"cannot be read ({error.strerror}); {_AGAIN}") from None


def _canonical(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _pretty(value: object) -> bytes:
    return (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode()


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
