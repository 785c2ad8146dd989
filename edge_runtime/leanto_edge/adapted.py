"""A model with an adapter in it: the adapter's factors stand beside the base's own, and nothing else changes.

What was measured on the base (its confidence calibration, its certificates) does not hold for the result, so it is taken away.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from leanto_edge.adapter import Adapter, NewCalls
from leanto_edge.artifact import Artifact
from leanto_edge.artifact.factors import dense_factors
from leanto_edge.artifact.layout import MatrixSpec
from leanto_edge.artifact.tensor_file import Array
from leanto_edge.calls import CallSchema

_FACTOR_TENSORS = ("left", "right", "left_scales", "right_scales", "factor_tables")


def adapted(artifact: Artifact, adapter: Adapter) -> Artifact:
    """`artifact` as it runs with `adapter`: another build, with the adapter's own calibration and no certificates.

    All factors of a changed matrix become float16. Only for the engine: a dense matrix with a low-rank term cannot be written.
    """
    matrices, tensors = dict(artifact.matrices), dict(artifact.tensors)
    for module, (left, right) in adapter.factors.items():
        spec = MatrixSpec.from_json(artifact.matrices[module])
        own = {name: tensors.pop(f"{module}.{name}") for name in _FACTOR_TENSORS if f"{module}.{name}" in tensors}
        first_left, first_right = _halves(spec, own)
        tensors[f"{module}.left"] = np.ascontiguousarray(np.hstack([first_left, left]))
        tensors[f"{module}.right"] = np.ascontiguousarray(np.vstack([first_right, right]))
        matrices[module] = {**artifact.matrices[module], "rank": spec.rank + left.shape[1], "factor_bits": 16}
    stored = artifact.manifest["stored_bytes"] + adapter.stored_bytes
    manifest = {**artifact.manifest, "confidence": dict(adapter.confidence), "certificates": [], "stored_bytes": stored}
    build = adapted_build_hash(artifact.build_hash, adapter.sha256)
    return replace(artifact, matrices=matrices, tensors=tensors, manifest=manifest, build_hash=build)


def adapted_build_hash(base: str, adapter: str) -> str:
    """Hash (hex) of a base with an adapter: SHA-256 over the canonical JSON of both hashes."""
    return hashlib.sha256(json.dumps({"adapter": adapter, "base": base}, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def extended_schema(schema: CallSchema, new: NewCalls) -> CallSchema:
    """`schema` with more intents, and more slots for those that it has. Raises ValueError for what it cannot take on."""
    if named := sorted(set(new.tokens) & set(schema.intents)):
        raise ValueError(f"the intent {named[0]!r} has a token of its own")
    known = set(schema.slots)
    merged = dict(schema.intents)
    for name, slots in new.intents.items():
        unknown = sorted(set(slots) - known)
        if unknown:
            raise ValueError(f"the intent {name[:100]!r} has a slot {unknown[0][:100]!r} that the model does not know")
        merged[name] = tuple(dict.fromkeys((*merged.get(name, ()), *slots)))
    return CallSchema(merged)


def _halves(spec: MatrixSpec, tensors: Mapping[str, Array]) -> tuple[NDArray[np.float16], NDArray[np.float16]]:
    """The base's own factors in float16: as they are stored, or from fewer bits, evened out so that neither leaves its range."""
    if spec.rank and spec.factor_bits == 16:
        return tensors["left"], tensors["right"]
    return even_halves(*dense_factors(spec, tensors))


def even_halves(left: NDArray[np.float32], right: NDArray[np.float32]) -> tuple[NDArray[np.float16], NDArray[np.float16]]:
    """The factors (m, k) and (k, n) in float16, a power of two moved between each column and its row so that both are of one size."""
    large, small = np.abs(right).max(1, initial=0), np.abs(left).max(0, initial=0)
    usable = (large > 0) & (small > 0)
    power = np.where(usable, np.rint(0.5 * (np.log2(np.where(usable, large, 1)) - np.log2(np.where(usable, small, 1)))), 0)
    gain = np.exp2(power).astype(np.float32)
    return (left * gain).astype(np.float16), (right / gain[:, None]).astype(np.float16)
