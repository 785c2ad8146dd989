"""Reads and writes the artifact: a directory with a model, its tokenizer and a manifest of hashes (docs/format.md).

Reading verifies everything before it returns and maps the weights in place; writing makes the whole directory appear at once.
Knows nothing of compression and of arithmetic, and never unpickles.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from leanto_edge.artifact.architecture import ModelShape
from leanto_edge.artifact.layout import BLOCK, FORMAT, MatrixSpec, check_matrices, expected_tensors, matrix_sizes, vector_sizes
from leanto_edge.artifact.manifest import (
    AGAIN,
    CONFIG,
    DERIVED,
    MANIFEST,
    WEIGHTS,
    as_json,
    build_hash_of,
    describe_plain,
    fingerprint,
    read_json,
    read_manifest,
    safe_name,
    verify_files,
)
from leanto_edge.artifact.tensor_file import Array, TensorFile, write_tensors
from leanto_edge.errors import ArtifactError, UnsupportedModelError


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
    """Verify and map the artifact at `path`; a plain Hugging Face folder (no leanto.json) reads as all-dense float32.

    Raises ArtifactError, or UnsupportedModelError for sound files that this version cannot run.
    """
    path = Path(path)
    try:
        if not path.is_dir():
            raise ArtifactError(path, "is not a model directory; check the path, or make one with `leanto compress`")
        return _read_compressed(path) if (path / MANIFEST).exists() else _read_plain(path)
    except OSError as error:
        raise ArtifactError(path, f"cannot be read ({error.strerror}); check the path and its permissions") from None


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
    draft = None
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
        _write_draft(draft, config, matrices, tensors, files, {"name": out.name, **metadata})
        read_artifact(draft)
        draft.chmod(0o755)
        draft.rename(out)
        _sync(out.parent)
    except OSError as error:
        raise ArtifactError(out, f"cannot be written ({error}); free some space or choose another place") from None
    finally:
        if draft is not None:
            shutil.rmtree(draft, ignore_errors=True)
    return read_artifact(out)


def annotate_artifact(path: str | Path, **fields: Any) -> None:
    """Set fields of leanto.json that no hash covers (name, quality, confidence, certificates, ...), atomically. Raises ArtifactError."""
    fixed = sorted(set(fields) & set(DERIVED))
    if fixed:
        raise ValueError(f"{fixed[0]} follows from the files and cannot be set")
    path = Path(path)
    draft = path / f".{MANIFEST}.{os.getpid()}"
    manifest = read_manifest(path)
    try:
        _write(draft, as_json({**manifest, **fields}))
        draft.replace(path / MANIFEST)
    finally:
        draft.unlink(missing_ok=True)


def read_matrices(path: Path, shape: ModelShape, config: Mapping[str, Any]) -> dict[str, MatrixSpec]:
    """The entries of `quantization_config.matrices`, checked against the shape of the model. Raises ArtifactError."""
    block = config.get("quantization_config")
    method = block.get("quant_method") if isinstance(block, dict) else None
    if not isinstance(block, dict) or method != "leanto":
        raise UnsupportedModelError(path / CONFIG, f"has quant_method {method!r:.40}, this engine reads 'leanto'; start from the original")
    for key, value in (("format", FORMAT), ("block", BLOCK)):
        if block.get(key) != value:
            raise ArtifactError(path / CONFIG, f"has {key} {block.get(key)!r:.40}, this leanto reads {value}; compress the model again")
    entries = block.get("matrices")
    if not isinstance(entries, dict):
        raise ArtifactError(path / CONFIG, f"describes no matrices; {AGAIN}")
    matrices: dict[str, MatrixSpec] = {}
    for name, entry in entries.items():
        try:
            matrices[name] = MatrixSpec.from_json(entry)
        except ValueError as error:
            raise ArtifactError(path / CONFIG, f"describes {name[:100]!r} wrongly: {error}; {AGAIN}") from None
    try:
        check_matrices(shape, matrices)
    except ValueError as error:
        raise ArtifactError(path / CONFIG, f"does not fit its model: {error}; {AGAIN}") from None
    return matrices


def read_tensors(weights: TensorFile, shape: ModelShape, matrices: Mapping[str, MatrixSpec]) -> dict[str, Array]:
    """The tensors that the engine wants, checked; dense weights, norms and biases as float32. Raises ArtifactError."""
    tensors: dict[str, Array] = {}
    vectors = vector_sizes(shape)
    for name, spec in expected_tensors(shape, matrices).items():
        if name not in weights:
            raise ArtifactError(weights.path, f"lacks the tensor {name}; {AGAIN}")
        if weights[name].shape != spec.shape or weights.dtypes[name] not in spec.dtypes:
            found, wanted = f"{weights.dtypes[name]} {list(weights[name].shape)}", f"{'/'.join(sorted(spec.dtypes))} {list(spec.shape)}"
            raise ArtifactError(weights.path, f"holds {name} as {found} instead of {wanted}; {AGAIN}")
        dense = name.endswith(".weight") and name not in vectors
        tensors[name] = weights.as_float32(name) if dense or name in vectors else weights[name]
        if not dense:  # which would be to read all of a large model
            _check_values(weights.path, name, tensors[name])
    return tensors


def _read_compressed(path: Path) -> Artifact:
    manifest = read_manifest(path)
    verify_files(path, manifest)
    config = read_json(path / CONFIG)
    shape = ModelShape.from_config(path, config)
    matrices = read_matrices(path, shape, config)
    weights = TensorFile(path / WEIGHTS)
    tensors = read_tensors(weights, shape, matrices)
    unknown = sorted(set(weights) - set(tensors))
    if unknown:
        raise ArtifactError(weights.path, f"holds an unknown tensor {unknown[0][:100]!r}; {AGAIN}")
    for key, value in _derived(manifest["files"], shape, matrices).items():
        if manifest[key] != value:
            raise ArtifactError(path / MANIFEST, f"has {key} {manifest[key]!r:.40}, its files say {value!r:.40}; {AGAIN}")
    return Artifact(path, config, shape, _described(matrices), tensors, manifest, manifest["build_hash"])


def _read_plain(path: Path) -> Artifact:
    manifest = describe_plain(path)
    config = read_json(path / CONFIG)
    shape = ModelShape.from_config(path, config)
    block = config.get("quantization_config")
    if isinstance(block, dict) and block.get("quant_method") == "leanto":
        raise ArtifactError(path, f"is compressed but lacks {MANIFEST}; write it with leanto_edge.transformers.save_artifact")
    if block:
        raise UnsupportedModelError(path / CONFIG, "is quantized by another tool; start from the original model")
    matrices = {name: MatrixSpec("dense", 32, rows, cols) for name, (rows, cols) in matrix_sizes(shape).items()}
    tensors = read_tensors(TensorFile(path / WEIGHTS), shape, matrices)
    parameters = sum(tensor.size for tensor in tensors.values())
    manifest |= {"parameters": parameters, "bits_per_weight": 8 * manifest["files"][WEIGHTS]["bytes"] / parameters}
    return Artifact(path, config, shape, _described(matrices), tensors, manifest, build_hash_of(manifest["files"]))


def _check_values(path: Path, name: str, tensor: Array) -> None:
    """Refuse numbers on which the kernels' arithmetic would overflow or turn into NaN."""
    if tensor.dtype.kind == "f" and not np.isfinite(tensor).all():
        raise ArtifactError(path, f"holds a number in {name} that is not finite; {AGAIN}")
    if tensor.dtype == np.int8 and tensor.size and tensor.min() == -128:
        raise ArtifactError(path, f"holds -128 in {name}, which is no code; {AGAIN}")
    if name.endswith("tables") and np.abs(np.add.outer(tensor[0].astype(int), tensor[1].astype(int))).max() > 127:
        raise ArtifactError(path, f"holds tables in {name} whose sums leave [-127, 127]; {AGAIN}")


def _described(matrices: Mapping[str, MatrixSpec]) -> dict[str, dict[str, Any]]:
    return {name: matrix.as_dict() for name, matrix in matrices.items()}


def _derived(files: Mapping[str, Mapping[str, Any]], shape: ModelShape, matrices: Mapping[str, MatrixSpec]) -> dict[str, Any]:
    """The fields of the manifest that follow from the files: a tied matrix counts once."""
    parameters = sum(matrix.rows * matrix.cols for matrix in matrices.values()) + sum(vector_sizes(shape).values())
    return {
        "format": FORMAT,
        "build_hash": build_hash_of(files),
        "parameters": parameters,
        "stored_bytes": sum(entry["bytes"] for entry in files.values()),
        "bits_per_weight": 8 * files[WEIGHTS]["bytes"] / parameters,
        "files": files,
    }


def _write_draft(
    draft: Path,
    config: Mapping[str, Any],
    matrices: Mapping[str, MatrixSpec],
    tensors: Mapping[str, Array],
    files: Mapping[str, bytes],
    metadata: Mapping[str, Any],
) -> None:
    """All files of an artifact, the manifest last."""
    block = {"quant_method": "leanto", "format": FORMAT, "block": BLOCK, "matrices": _described(matrices)}
    _write(draft / CONFIG, as_json({**config, "quantization_config": block}))
    write_tensors(draft / WEIGHTS, tensors)
    for name, content in files.items():
        _write(draft / safe_name(draft, name), content)
    listed = {file.name: fingerprint(file) for file in sorted(draft.iterdir())}
    derived = _derived(listed, ModelShape.from_config(draft, config), matrices)
    _write(draft / MANIFEST, as_json({**metadata, **derived}))
    _sync(draft)


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
