"""The story of a compression: load → weigh the matrices → share out the bytes → walk the layers (moments → matrices → on with the
compressed weights) → embedding and head → recover → measure → write.

Each step is its own module; here is only their order, what is kept for a resumption, and the progress that a caller hears of.
"""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leanto_edge.artifact import write_artifact
from leanto_edge.artifact.architecture import ModelShape
from leanto_edge.artifact.layout import EMBEDDING, HEAD, MatrixSpec, matrix_sizes, shared_input_groups, shared_inputs, vector_sizes
from leanto_edge.compress.allocation import allocate, vectors_size
from leanto_edge.compress.calibration import Calibration, read_calibration
from leanto_edge.compress.guidance import Weights, token_weights
from leanto_edge.compress.hessian import Hessian, LayerWalk, measure_moments
from leanto_edge.compress.matrix import CompressedMatrix, compress_matrix, decompress_matrix
from leanto_edge.compress.methods import METHODS
from leanto_edge.compress.progress import Clock, Progress
from leanto_edge.compress.recovery import recover
from leanto_edge.compress.reference import proxy_error
from leanto_edge.compress.report import MatrixReport, Quality, Report, measure_quality
from leanto_edge.compress.sensitivity import table_problems, weigh
from leanto_edge.compress.settings import Profile, Settings
from leanto_edge.compress.source import Source, find_source, load_source
from leanto_edge.compress.student import Student
from leanto_edge.compress.workspace import Workspace
from leanto_edge.errors import ArtifactError


def compress(
    source: str | Path,
    out: str | Path,
    *,
    calibration: str | Path,
    bits: float = 4,
    budget_bytes: int | None = None,
    profile: Profile = "best",
    uniform: bool = False,
    method: str = "leanto",
    embedding_bits: int | None = None,
    rank: int = 0,
    sweeps: int = 2,
    recover_minutes: float = 0.0,
    guided: bool = False,
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
    given arguments and machine, but for recovery, which ends by the clock. Raises ArtifactError, UnsupportedModelError, and ValueError
    for a number out of range or a budget too small.
    """
    out = Path(out)
    numbers = (bits, budget_bytes, profile, uniform, method, embedding_bits, rank, sweeps, recover_minutes, guided, seed)
    settings = Settings(*numbers, calibration_tokens, held_out_tokens)
    if out.exists():
        raise ArtifactError(out, "already exists; remove it or choose another place")
    out.parent.mkdir(parents=True, exist_ok=True)
    clock = Clock(progress)
    clock.start("load", 1)
    teacher = load_source(find_source(source))
    text = _calibration(teacher, Path(calibration), settings)
    clock.done(1)
    job = {"source": teacher.sha256, "calibration": text.sha256, "settings": asdict(replace(settings, recover_minutes=0.0))}
    workspace = Workspace(out, job, resume=resume)
    student = Student(teacher)
    with ThreadPoolExecutor(threads or os.cpu_count() or 1) as executor:
        specs, divergences = _choose(teacher, text, settings, workspace, clock)
        matrices = _Compression(teacher, student, settings, specs, workspace, executor, clock).run(text)
    stored, untuned = _Stored(matrices, teacher.vectors(), divergences), None
    if settings.recover_minutes:
        untuned = measure_quality(teacher.model, student.model, text.held_out)
        stored = _recover(teacher, student, stored, text, settings, clock)
    clock.start("measure", len(text.held_out))
    quality = measure_quality(teacher.model, student.model, text.held_out, clock.done)
    clock.start("write", 1)
    report = _write(out, name or teacher.path.resolve().name, teacher, text, settings, stored, quality)
    report = replace(report, untuned=untuned, seconds=clock.seconds)
    workspace.remove()
    report.write(out)
    clock.done(1)
    return report


@dataclass(frozen=True, slots=True)
class _Stored:
    """What goes into the artifact, and the divergence that was expected of each matrix (empty where none was measured)."""

    matrices: Mapping[str, CompressedMatrix]
    vectors: Mapping[str, Any]
    divergences: Mapping[str, float]


def _recover(teacher: Source, student: Student, stored: _Stored, text: Calibration, settings: Settings, clock: Clock) -> _Stored:
    """The same after some minutes of learning from the teacher; the student has it too."""
    clock.start("recover", 100)
    recovered = recover(teacher, stored.matrices, text.documents, settings.recover_minutes, settings.seed, clock.done)
    student.take_vectors(recovered.vectors)
    for module, matrix in recovered.matrices.items():
        student.take(module, matrix)
    return replace(stored, matrices=recovered.matrices, vectors=recovered.vectors)


def _choose(
    teacher: Source, text: Calibration, settings: Settings, workspace: Workspace, clock: Clock
) -> tuple[dict[str, MatrixSpec], dict[str, float]]:
    """How to store each matrix, and the divergence expected of each (empty where none was measured)."""
    sizes, readers = matrix_sizes(teacher.shape), _first_readers(teacher.shape)
    if settings.uniform:
        return {module: settings.uniform_spec(module, *size, readers[module]) for module, size in sizes.items()}, {}
    kept = workspace.load_choice()
    if kept is not None:
        return kept
    clock.start("weigh", len(sizes))
    options = {module: settings.candidate_specs(module, *size, readers[module]) for module, size in sizes.items()}
    candidates = weigh(teacher, text.documents, options, settings.seed, clock.advance)
    parameters = sum(rows * cols for rows, cols in sizes.values()) + sum(vector_sizes(teacher.shape).values())
    budget = settings.budget_bytes if settings.budget_bytes is not None else int(settings.bits * parameters / 8)
    chosen = allocate(candidates, budget - vectors_size(vector_sizes(teacher.shape), 4 * parameters))
    specs, divergences = {m: c.spec for m, c in chosen.items()}, {m: c.kl for m, c in chosen.items()}
    workspace.save_choice(specs, divergences)
    return specs, divergences


def _first_readers(shape: ModelShape) -> dict[str, str]:
    """For each matrix, the first that reads the same input."""
    groups = [*shared_input_groups(shape), (EMBEDDING,), (HEAD,)]
    return {module: group[0] for group in groups for module in group}


class _Compression:
    """The walk through the layers, teacher and student side by side. `student` takes on the compressed weights as they are made: whole
    while their layer is worked on, from then on only when they run."""

    def __init__(
        self,
        teacher: Source,
        student: Student,
        settings: Settings,
        specs: Mapping[str, MatrixSpec],
        workspace: Workspace,
        executor: Executor,
        clock: Clock,
    ) -> None:
        self._teacher, self._student, self._settings, self._specs = teacher, student, settings, specs
        self._workspace, self._executor, self._clock = workspace, executor, clock
        self._finished: dict[str, CompressedMatrix] = {}
        self._guides: Weights = {}

    def run(self, text: Calibration) -> Mapping[str, CompressedMatrix]:
        """Every matrix of the model, compressed."""
        self._clock.start("compress", sum(spec.rows * spec.cols for spec in self._specs.values()))
        shape = self._teacher.shape
        if self._settings.guided:
            self._guides = token_weights(self._teacher, text.documents, self._settings.seed)
        truth, walk = (LayerWalk(model, text.documents, shape) for model in (self._teacher.model, self._student.model))
        for layer in range(shape.num_layers):
            for group in shared_inputs(shape):
                self._group(truth, walk, layer, group)
            truth.advance(layer)
            walk.advance(layer)
            for name in itertools.chain(*shared_inputs(shape)):
                module = f"model.layers.{layer}.{name}"
                self._student.take(module, self._finished[module])
        self._tables(walk, text)
        return {module: self._finished[module] for module in self._specs}

    def _group(self, truth: LayerWalk, walk: LayerWalk, layer: int, group: tuple[str, ...]) -> None:
        """The matrices that read one input, measured behind all that come before them."""
        modules = [f"model.layers.{layer}.{name}" for name in group]
        finished = {module: self._workspace.load(module, self._specs[module]) for module in modules}
        if None in finished.values():
            moments = measure_moments(truth, walk, layer, group[0], self._guides.get(modules[0]))
            if not np.isfinite(moments.hessian).all():
                raise ArtifactError(self._teacher.path, f"gives values that are not finite in front of {modules[0]}; the model is broken")
            missing = [module for module, matrix in finished.items() if matrix is None]
            with ThreadPoolExecutor(len(missing)) as side_by_side:
                made = side_by_side.map(
                    lambda module: self._compress(module, moments.target(self._weight(module)), moments.hessian), missing
                )
                finished |= dict(zip(missing, made, strict=True))
        for module, matrix in finished.items():
            assert matrix is not None
            self._take(module, matrix)

    def _tables(self, walk: LayerWalk, text: Calibration) -> None:
        """Embedding and head: a row counts as often as its token is read, or predicted. A tied matrix serves both."""
        for module, (h, importance) in table_problems(self._teacher.shape, *walk.head(), text.documents).items():
            found = self._workspace.load(module, self._specs[module])
            self._take(module, found or self._compress(module, self._weight(module), h, importance))

    def _weight(self, module: str) -> NDArray[np.float32]:
        weight: NDArray[np.float32] = self._teacher.weight(module).numpy()
        return weight

    def _compress(
        self, module: str, weight: NDArray[np.float32], h: Hessian, importance: NDArray[np.float32] | None = None
    ) -> CompressedMatrix:
        spec = self._specs[module]
        if spec.kind == "dense":
            return self._compare(module, weight, h)
        finished = compress_matrix(weight, h, spec, sweeps=self._settings.sweeps, executor=self._executor, importance=importance)
        self._workspace.save(module, finished)
        return finished

    def _compare(self, module: str, weight: NDArray[np.float32], h: Hessian) -> CompressedMatrix:
        """By another method, kept as the plain weight that it would compute with."""
        found = METHODS[self._settings.method](weight, h, self._settings.bits, seed=self._settings.seed)
        error = proxy_error(weight.astype(np.float64), found.weight.astype(np.float64), h)
        finished = CompressedMatrix(self._specs[module], {"weight": found.weight}, error, math.ceil(found.stored_bits / 8))
        self._workspace.save(module, finished)
        return finished

    def _take(self, module: str, finished: CompressedMatrix) -> None:
        self._finished[module] = finished
        self._student.hold(module, decompress_matrix(finished.spec, finished.tensors))
        self._clock.advance(finished.spec.rows * finished.spec.cols)


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


def _write(out: Path, name: str, teacher: Source, text: Calibration, settings: Settings, stored: _Stored, quality: Quality) -> Report:
    matrices, divergences = stored.matrices, stored.divergences
    tensors = {f"{module}.{part}": tensor for module, matrix in matrices.items() for part, tensor in matrix.tensors.items()}
    specs = {module: matrix.spec for module, matrix in matrices.items()}
    metadata = {
        "name": name,
        "profile": settings.profile,
        "teacher_hash": teacher.sha256,
        "calibration_hash": text.sha256,
        "settings": asdict(settings),
        "quality": asdict(quality),
        "confidence": {},
        "certificates": [],
    }
    artifact = write_artifact(out, teacher.config, specs, tensors | dict(stored.vectors), teacher.small_files(), metadata)
    rows = tuple(
        MatrixReport(
            module,
            *(spec.kind, spec.bits, spec.rank, spec.factor_bits, spec.rows, spec.cols),
            *(matrix.stored_bytes, matrix.error),
            divergences[module] / (sum(divergences.values()) or 1.0) if divergences else None,
        )
        for module, matrix in matrices.items()
        for spec in (matrix.spec,)
    )
    found = artifact.manifest
    saved = sum(matrix.file_bytes - matrix.stored_bytes for matrix in matrices.values())  # by another method's format
    size, bits_per_weight = found["stored_bytes"] - saved, found["bits_per_weight"] - 8 * saved / found["parameters"]
    return Report(name, artifact.build_hash, found["parameters"], size, bits_per_weight, quality, None, rows, 0.0)
