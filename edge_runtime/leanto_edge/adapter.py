"""Reads and writes an adapter: low-rank factors that a model learnt on a device, and what they belong to (docs/format.md).

One safetensors file, bound to the build hash of its base and to its own content. Knows nothing of training and of arithmetic.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from leanto_edge.artifact import Artifact
from leanto_edge.artifact.layout import EMBEDDING, HEAD
from leanto_edge.artifact.tensor_file import TensorFile
from leanto_edge.errors import AdapterError, ArtifactError

FORMAT = 1
METADATA = "leanto_adapter"
_METADATA_LIMIT_CHARACTERS = 1 << 20
_AGAIN = "fetch it again, or adapt anew"

Halves = NDArray[np.float16]


@dataclass(frozen=True, slots=True)
class NewCalls:
    """What an adapter adds to its base's call schema: the slots of intents, and the text piece that stands for each new one."""

    intents: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    tokens: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Adapter:
    """Factors (left (m, k), right (k, n)) float16 by module, in the rotated basis of the base's own.

    `base`: build hash of the model that they belong to; `confidence`: the adapted model's own calibration per task, mostly none;
    `training`: how they were made; `sha256`: of all this; `stored_bytes`: of the file.
    """

    base: str
    factors: Mapping[str, tuple[Halves, Halves]]
    calls: NewCalls
    confidence: Mapping[str, Any]
    training: Mapping[str, Any]
    sha256: str
    stored_bytes: int


def largest_ranks(artifact: Artifact) -> dict[str, int]:
    """The modules that an adapter may change, each with the rank that its base leaves free. The embedding and the head stay as they are."""
    entries = {module: entry for module, entry in artifact.matrices.items() if module not in (EMBEDDING, HEAD)}
    return {module: min(entry["rows"], entry["cols"]) - entry["rank"] for module, entry in entries.items()}


def write_adapter(
    out: str | Path,
    artifact: Artifact,
    factors: Mapping[str, tuple[Halves, Halves]],
    *,
    training: Mapping[str, Any],
    calls: NewCalls | None = None,
    confidence: Mapping[str, Any] | None = None,
) -> Adapter:
    """Write an adapter of `artifact` to the file `out`, which must not exist and appears whole or not at all. Raises AdapterError."""
    out, calls = Path(out), calls or NewCalls()
    if out.exists():
        raise AdapterError(out, "already exists; remove it or choose another place")
    tensors = {f"{module}.{side}": part for module, pair in factors.items() for side, part in zip(("left", "right"), pair, strict=True)}
    tensors = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
    description = {
        "format": FORMAT,
        "base": artifact.build_hash,
        "ranks": {module: left.shape[1] for module, (left, _) in factors.items()},
        "calls": {"intents": {name: list(slots) for name, slots in calls.intents.items()}, "tokens": dict(calls.tokens)},
        "confidence": dict(confidence or {}),
        "training": dict(training),
    }
    description["sha256"] = _content_hash(description, tensors)
    draft = out.with_name(f".{out.name}.{os.getpid()}")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        save_file(tensors, draft, {METADATA: json.dumps(description)})
        draft.chmod(0o644)
        read_adapter(draft, artifact)
        draft.rename(out)
    except (OSError, SafetensorError) as error:
        raise AdapterError(out, f"cannot be written ({error}); free some space or choose another place") from None
    finally:
        draft.unlink(missing_ok=True)
    return read_adapter(out, artifact)


def read_adapter(path: str | Path, artifact: Artifact) -> Adapter:
    """The adapter in the file `path`, verified whole and as one of `artifact`. Raises AdapterError."""
    path = Path(path)
    if not os.path.isfile(path):  # False, too, for a path that cannot be looked at
        raise AdapterError(path, "is not a file; check the path, or make an adapter with `leanto adapt`")
    try:
        file = TensorFile(path)
    except ArtifactError:
        raise AdapterError(path, f"is truncated or not a safetensors file; {_AGAIN}") from None
    description = _description(path)
    if description["base"] != artifact.build_hash:
        raise AdapterError(
            path,
            f"belongs to the model of build {description['base'][:12]}, not to {artifact.build_hash[:12]}; load that one, or adapt anew",
        )
    if description["sha256"] != _content_hash({key: value for key, value in description.items() if key != "sha256"}, file):
        raise AdapterError(path, f"does not match its SHA-256, it was changed or damaged; {_AGAIN}")
    factors = _factors(path, file, description["ranks"], artifact)
    calls = _calls(path, description["calls"])
    size = path.stat().st_size
    return Adapter(artifact.build_hash, factors, calls, description["confidence"], description["training"], description["sha256"], size)


def _description(path: Path) -> dict[str, Any]:
    """The metadata of the file, each field of its type."""
    with safe_open(path, framework="numpy") as file:
        text = (file.metadata() or {}).get(METADATA)
    if text is None:
        raise AdapterError(path, "is no adapter of leanto; give a file that `leanto adapt` made")
    try:
        value = json.loads(text) if len(text) <= _METADATA_LIMIT_CHARACTERS else None
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise AdapterError(path, f"does not say what it is; {_AGAIN}")
    if value.get("format") != FORMAT:
        raise AdapterError(path, f"has format {value.get('format')!r:.40}, this leanto reads {FORMAT}; adapt anew or change the version")
    for key, kind in (("base", str), ("sha256", str), ("ranks", dict), ("calls", dict), ("confidence", dict), ("training", dict)):
        if not isinstance(value.get(key), kind):
            raise AdapterError(path, f"has no usable {key!r}; {_AGAIN}")
    return value


def _factors(path: Path, file: TensorFile, ranks: Mapping[str, Any], artifact: Artifact) -> dict[str, tuple[Halves, Halves]]:
    """The factors, each of the type and shape that the base needs."""
    free = largest_ranks(artifact)
    factors = {}
    for module, rank in ranks.items():
        if module not in free:
            raise AdapterError(path, f"changes {module[:100]!r}, which is no matrix of this model that may be adapted; {_AGAIN}")
        if type(rank) is not int or not 0 < rank <= free[module]:
            raise AdapterError(path, f"has rank {rank!r:.40} for {module}, which leaves room for {free[module]}; {_AGAIN}")
        rows, cols = artifact.matrices[module]["rows"], artifact.matrices[module]["cols"]
        factors[module] = (_factor(path, file, f"{module}.left", (rows, rank)), _factor(path, file, f"{module}.right", (rank, cols)))
    unknown = sorted(set(file) - {f"{module}.{side}" for module in ranks for side in ("left", "right")})
    if unknown:
        raise AdapterError(path, f"holds an unknown tensor {unknown[0][:100]!r}; {_AGAIN}")
    return factors


def _factor(path: Path, file: TensorFile, name: str, shape: tuple[int, int]) -> Halves:
    if name not in file:
        raise AdapterError(path, f"lacks the tensor {name}; {_AGAIN}")
    if file.dtypes[name] != "F16" or file[name].shape != shape:
        raise AdapterError(path, f"holds {name} as {file.dtypes[name]} {list(file[name].shape)} instead of F16 {list(shape)}; {_AGAIN}")
    if not np.isfinite(file[name]).all():
        raise AdapterError(path, f"holds a number in {name} that is not finite; {_AGAIN}")
    return file[name]


def _calls(path: Path, value: Mapping[str, Any]) -> NewCalls:
    """The additions to the call schema, by type; the engine holds them against its tokenizer."""
    intents, tokens = value.get("intents"), value.get("tokens")
    if not isinstance(intents, dict) or not isinstance(tokens, dict):
        raise AdapterError(path, f"has no usable 'calls'; {_AGAIN}")
    for name, slots in intents.items():
        if not name.isprintable() or not isinstance(slots, list) or not all(isinstance(slot, str) for slot in slots):
            raise AdapterError(path, f"describes the intent {name[:100]!r} wrongly; {_AGAIN}")
    if any(type(token) is not int or not 0 <= token < 1 << 31 for token in tokens.values()):
        raise AdapterError(path, f"has a token that is none for an intent; {_AGAIN}")
    return NewCalls({name: tuple(slots) for name, slots in intents.items()}, tokens)


def _content_hash(description: Mapping[str, Any], tensors: Mapping[str, NDArray[Any]]) -> str:
    """SHA-256 (hex) over the canonical JSON of the description and each tensor's name and bytes, in the order of names."""
    digest = hashlib.sha256(json.dumps(description, sort_keys=True, separators=(",", ":")).encode())
    for name in sorted(tensors):
        digest.update(b"\0" + name.encode() + b"\0")
        digest.update(np.ascontiguousarray(tensors[name]).tobytes())
    return digest.hexdigest()
