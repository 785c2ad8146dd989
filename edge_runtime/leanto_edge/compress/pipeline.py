"""The story of a compression: load → walk the layers (Hessians → matrices → on with the compressed weights) → head → measure → write.

Each step is its own module; here is only their order, what is kept for a resumption, and the progress that a caller hears of.
"""

from __future__ import annotations

import copy
import os
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from leanto_edge.artifact import write_artifact
from leanto_edge.compress.calibration import Calibration, read_calibration
from leanto_edge.compress.hessian import Hessian, LayerWalk
from leanto_edge.compress.matrix import CompressedMatrix, compress_matrix, decompress_matrix
from leanto_edge.compress.report import MatrixReport, Quality, Report, measure_quality
from leanto_edge.compress.settings import Settings
from leanto_edge.compress.source import Source, find_source, load_source
from leanto_edge.compress.workspace import Workspace
from leanto_edge.errors import ArtifactError
from leanto_edge.layout import EMBEDDING, HEAD, MatrixSpec, matrix_sizes, shared_inputs

RARE_TOKEN = 0.3  # importance of a token that the calibration text never uses, where the mean token has 1.3

Stage = Literal["load", "compress", "measure", "write"]
Progress = Callable[[Stage, int, int, float], None]  # stage, done, total (weights or documents), seconds left of the stage


def compress(
    source: str | Path,
    out: str | Path,
    *,
    calibration: str | Path,
    bits: int = 4,
    embedding_bits: int | None = None,
    rank: int = 0,
    sweeps: int = 2,
    seed: int = 0,
    calibration_tokens: int = 32_768,
    held_out_tokens: int = 8_192,
    threads: int | None = None,
    name: str | None = None,
    progress: Progress | None = None,
    resume: bool = True,
) -> Report:
    """Compress the model `source` (a Hugging Face folder or hub id) into the artifact directory `out`, which must not exist.

    `calibration`: a text file (documents separated by a line `<|endoftext|>`) or a .jsonl file of token-id lists. See Settings for
    the numbers. A killed run goes on where it stopped when called again with the same arguments (`resume`). Deterministic for
    given arguments and machine. Raises ArtifactError, UnsupportedModelError, and ValueError for a number out of range.
    """
    out = Path(out)
    settings = Settings(bits, embedding_bits, rank, sweeps, seed, calibration_tokens, held_out_tokens)
    if out.exists():
        raise ArtifactError(out, "already exists; remove it or choose another place")
    out.parent.mkdir(parents=True, exist_ok=True)
    clock = _Clock(progress)
    clock.start("load", 1)
    teacher = load_source(find_source(source))
    text = _calibration(teacher, Path(calibration), settings)
    clock.done(1)
    job = {"source": teacher.sha256, "calibration": text.sha256, "settings": asdict(settings)}
    workspace = Workspace(out, job, resume=resume)
    student = copy.deepcopy(teacher.model)
    with ThreadPoolExecutor(threads or os.cpu_count() or 1) as executor:
        matrices = _Compression(teacher, student, settings, workspace, executor, clock).run(text)
    clock.start("measure", len(text.held_out))
    quality = measure_quality(teacher.model, student, text.held_out, clock.done)
    clock.start("write", 1)
    report = _write(out, name or teacher.path.resolve().name, teacher, text, settings, matrices, quality, clock.seconds)
    workspace.remove()
    clock.done(1)
    return report


class _Compression:
    """The walk through the layers. `student` takes on the compressed weights as they are made."""

    def __init__(self, teacher: Source, student: Any, settings: Settings, workspace: Workspace, executor: Executor, clock: _Clock) -> None:
        self._teacher, self._student, self._settings = teacher, student, settings
        self._workspace, self._executor, self._clock = workspace, executor, clock
        self._sizes = matrix_sizes(teacher.shape)
        self._finished: dict[str, CompressedMatrix] = {}

    def run(self, text: Calibration) -> Mapping[str, CompressedMatrix]:
        """Every matrix of the model, compressed."""
        self._clock.start("compress", sum(rows * cols for rows, cols in self._sizes.values()))
        walk = LayerWalk(self._student, text.documents, self._teacher.shape)
        for layer in range(self._teacher.shape.num_layers):
            self._layer(walk, layer)
            walk.advance(layer)
        self._tables(walk, text)
        return {module: self._finished[module] for module in self._sizes}

    def _layer(self, walk: LayerWalk, layer: int) -> None:
        """Measured with none of its own matrices compressed, so that a resumed run measures the same."""
        prefix = f"model.layers.{layer}."
        shared = {prefix + module: prefix + group[0] for group in shared_inputs(self._teacher.shape) for module in group}
        specs = {module: self._spec(module, reader) for module, reader in shared.items()}
        finished = {module: self._workspace.load(module, spec) for module, spec in specs.items()}
        measured = walk.hessians(layer) if None in finished.values() else {}
        for module, spec in specs.items():
            self._take(module, finished[module] or self._compress(module, spec, measured[shared[module].removeprefix(prefix)]))

    def _tables(self, walk: LayerWalk, text: Calibration) -> None:
        """Embedding and head: a row counts as often as its token is read, or predicted. A tied matrix serves both."""
        head, predicted = walk.head()
        head /= np.trace(head) / len(head)
        read = np.bincount(np.concatenate(text.documents), minlength=len(predicted)) / sum(map(len, text.documents))
        identity = np.eye(len(head))  # looked-up vectors: every direction counts the same
        if self._teacher.shape.tie_embeddings:
            self._table(EMBEDDING, head + identity, read + predicted)
        else:
            self._table(EMBEDDING, identity, read)
            self._table(HEAD, head, predicted)

    def _table(self, module: str, h: Hessian, use: NDArray[np.float64]) -> None:
        importance = (use / use.mean() + RARE_TOKEN).astype(np.float32)
        spec = self._spec(module, module)
        self._take(module, self._workspace.load(module, spec) or self._compress(module, spec, h, importance))

    def _spec(self, module: str, shared_input: str) -> MatrixSpec:
        return self._settings.matrix_spec(module, *self._sizes[module], shared_input)

    def _compress(self, module: str, spec: MatrixSpec, h: Hessian, importance: NDArray[np.float32] | None = None) -> CompressedMatrix:
        if not np.isfinite(h).all():
            raise ArtifactError(self._teacher.path, f"gives values that are not finite in front of {module}; the model is broken")
        weight = self._teacher.weight(module).numpy()
        finished = compress_matrix(weight, h, spec, sweeps=self._settings.sweeps, executor=self._executor, importance=importance)
        self._workspace.save(module, finished)
        return finished

    def _take(self, module: str, finished: CompressedMatrix) -> None:
        self._finished[module] = finished
        weight = torch.from_numpy(decompress_matrix(finished.spec, finished.tensors))
        self._student.get_submodule(module).weight.copy_(weight)
        self._clock.advance(weight.numel())


class _Clock:
    """Tells the caller how far a stage is and how long it will still take."""

    def __init__(self, progress: Progress | None) -> None:
        self._progress = progress
        self._begin = self._since = time.monotonic()
        self._stage: Stage = "load"
        self._total, self._done = 1, 0

    @property
    def seconds(self) -> float:
        """Since the beginning."""
        return time.monotonic() - self._begin

    def start(self, stage: Stage, total: int) -> None:
        """Begin a stage of `total` units."""
        self._stage, self._total, self._done, self._since = stage, total, 0, time.monotonic()

    def advance(self, units: int) -> None:
        """`units` more are done."""
        self.done(self._done + units)

    def done(self, units: int) -> None:
        """`units` in all are done."""
        self._done = units
        left = (time.monotonic() - self._since) * (self._total - units) / units if units else 0.0
        if self._progress:
            self._progress(self._stage, units, self._total, left)


def _calibration(teacher: Source, path: Path, settings: Settings) -> Calibration:
    return read_calibration(
        path,
        teacher.tokenizer,
        vocab_size=teacher.shape.vocab_size,
        longest=min(settings.document_tokens, teacher.shape.context_length),
        tokens=settings.calibration_tokens,
        held_out_tokens=settings.held_out_tokens,
        seed=settings.seed,
    )


def _write(
    out: Path,
    name: str,
    teacher: Source,
    text: Calibration,
    settings: Settings,
    matrices: Mapping[str, CompressedMatrix],
    quality: Quality,
    seconds: float,
) -> Report:
    tensors = {f"{module}.{part}": tensor for module, matrix in matrices.items() for part, tensor in matrix.tensors.items()}
    specs = {module: matrix.spec for module, matrix in matrices.items()}
    metadata = {
        "name": name,
        "profile": "int8" if settings.bits == 8 else f"trellis-{settings.bits}",
        "teacher_hash": teacher.sha256,
        "calibration_hash": text.sha256,
        "settings": asdict(settings),
        "quality": asdict(quality),
        "confidence": {},
        "certificates": [],
    }
    artifact = write_artifact(out, teacher.config, specs, tensors | teacher.vectors(), teacher.small_files(), metadata)
    rows = tuple(
        MatrixReport(module, spec.kind, spec.bits, spec.rank, spec.rows, spec.cols, matrix.stored_bytes, matrix.error)
        for module, matrix in matrices.items()
        for spec in (matrix.spec,)
    )
    found = artifact.manifest
    return Report(name, artifact.build_hash, found["parameters"], found["stored_bytes"], found["bits_per_weight"], quality, rows, seconds)
