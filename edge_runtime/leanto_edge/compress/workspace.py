"""The work directory of a compression beside its output: finished matrices, so that a killed run goes on where it stopped.

Bound to one job by its fingerprint; each file appears whole. Knows nothing of how matrices are made.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from leanto_edge.artifact.layout import MatrixSpec
from leanto_edge.compress.matrix import CompressedMatrix
from leanto_edge.errors import ArtifactError

_JOB = "job.sha256"
_CHOICE = "choice.json"


class Workspace:
    """Finished matrices of the job described by `job` (any JSON value); another job's leftovers, or all without `resume`, are dropped."""

    def __init__(self, out: Path, job: Mapping[str, Any], *, resume: bool) -> None:
        self.path = out.parent / f".{out.name}.work"
        fingerprint = hashlib.sha256(json.dumps(job, sort_keys=True).encode()).hexdigest()
        try:
            if not (resume and self._belongs_to(fingerprint)):
                shutil.rmtree(self.path, ignore_errors=True)
                self.path.mkdir(parents=True)
                (self.path / _JOB).write_text(fingerprint)
        except OSError as error:
            raise ArtifactError(self.path, f"cannot be written ({error.strerror}); choose another place for the output") from None

    def load(self, module: str, spec: MatrixSpec) -> CompressedMatrix | None:
        """The finished matrix of `module`, or None if it is not there whole and as `spec` wants it."""
        try:
            with safe_open(self._file(module), framework="numpy") as file:
                metadata = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
        except (OSError, SafetensorError):
            return None
        if json.loads(metadata.get("spec", "null")) != spec.as_dict():
            return None
        return CompressedMatrix(spec, tensors, float(metadata["error"]), json.loads(metadata["foreign_bytes"]))

    def load_choice(self) -> tuple[dict[str, MatrixSpec], dict[str, float]] | None:
        """What `save_choice` kept, or None."""
        try:
            entries = json.loads((self.path / _CHOICE).read_bytes())
            return {name: MatrixSpec.from_json(spec) for name, (spec, _) in entries.items()}, {
                name: kl for name, (_, kl) in entries.items()
            }
        except (OSError, ValueError):
            return None

    def save_choice(self, specs: Mapping[str, MatrixSpec], divergences: Mapping[str, float]) -> None:
        """Keep how each matrix is to be stored, and the divergence expected of it."""
        entries = {name: (spec.as_dict(), divergences[name]) for name, spec in specs.items()}
        draft = self.path / f"{_CHOICE}.draft"
        try:
            draft.write_text(json.dumps(entries))
            draft.replace(self.path / _CHOICE)
        except OSError as error:
            raise ArtifactError(self.path, f"cannot be written ({error}); free some space and run the same command again") from None

    def save(self, module: str, matrix: CompressedMatrix) -> None:
        """Keep a finished matrix."""
        draft = self.path / f"{module}.draft"
        metadata = {
            "spec": json.dumps(matrix.spec.as_dict()),
            "error": repr(matrix.error),
            "foreign_bytes": json.dumps(matrix.foreign_bytes),
        }
        try:
            save_file({name: np.ascontiguousarray(tensor) for name, tensor in matrix.tensors.items()}, draft, metadata)
            with draft.open("rb") as file:
                os.fsync(file.fileno())
            draft.replace(self._file(module))
        except (OSError, SafetensorError) as error:
            raise ArtifactError(self.path, f"cannot be written ({error}); free some space and run the same command again") from None

    def remove(self) -> None:
        """Drop everything, once the artifact is written."""
        shutil.rmtree(self.path, ignore_errors=True)

    def _belongs_to(self, fingerprint: str) -> bool:
        file = self.path / _JOB
        return file.is_file() and file.read_text() == fingerprint

    def _file(self, module: str) -> Path:
        return self.path / f"{module}.safetensors"
