from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from leanto_edge.artifact.layout import EMBEDDING, HEAD, MatrixSpec
from leanto_edge.compress.hessian import LayerWalk
from leanto_edge.compress.incoherence import rotate_hessian, rotate_weight
from leanto_edge.compress.matrix import compress_matrix, decompress_matrix
from leanto_edge.compress.report import measure_quality
from leanto_edge.compress.sensitivity import Sensitivity, disturbance, table_problems
from leanto_edge.compress.settings import Settings
from leanto_edge.compress.source import load_source

RANDOM = np.random.default_rng(0)
DOCUMENTS = [tuple(RANDOM.integers(2, 250, 24).tolist()) for _ in range(12)]
MODULE = "model.layers.1.mlp.up_proj"


def test_divergences_grow_with_the_error_and_the_model_is_left_as_it_was(teacher: Path) -> None:
    source = load_source(teacher)
    before = {name: tensor.clone() for name, tensor in source.model.state_dict().items()}
    options = Settings(bits=2).candidate_specs(MODULE, 172, 64, MODULE)
    found = Sensitivity(source, DOCUMENTS, 0).candidates(MODULE, np.eye(64), options)
    plain = {option.spec.bits: option for option in found if option.spec.rank == 0}
    kls, sizes = ([getattr(plain[bits], name) for bits in (1, 2, 3, 4, 8)] for name in ("kl", "size"))
    assert all(one > other > 0 for one, other in itertools.pairwise(kls))
    assert sizes == sorted(sizes)
    assert all(torch.equal(before[name], tensor) for name, tensor in source.model.state_dict().items())


def test_the_expected_divergence_is_close_to_that_of_the_compressed_matrix(teacher: Path) -> None:
    source = load_source(teacher)
    walk = LayerWalk(source.model, DOCUMENTS, source.shape)
    walk.advance(0)
    h = walk.hessians(1)["mlp.gate_proj"]
    options = Settings(bits=2).candidate_specs(MODULE, 172, 64, MODULE)
    expected = Sensitivity(source, DOCUMENTS, 0).candidates(MODULE, h, options)
    student = load_source(teacher).model
    weight = source.weight(MODULE).numpy()
    for candidate in expected[:3]:
        with ThreadPoolExecutor(1) as executor:
            matrix = compress_matrix(weight, h, candidate.spec, sweeps=2, executor=executor)
        student.get_submodule(MODULE).weight.copy_(torch.from_numpy(decompress_matrix(matrix.spec, matrix.tensors)))
        actual = measure_quality(source.model, student, DOCUMENTS).kl_mean
        assert actual / 2 < candidate.kl < 2 * actual


def test_a_disturbance_is_as_large_as_the_weight_and_shaped_by_the_hessian() -> None:
    inputs = RANDOM.standard_normal((400, 48)) * np.geomspace(1, 10, 48)
    h, w = inputs.T @ inputs / 400, RANDOM.standard_normal((64, 48)).astype(np.float32)
    spec = MatrixSpec("trellis", 2, 64, 48, 0, 3, 4)
    error = disturbance(w, h, spec, np.random.default_rng(1)).astype(np.float64)
    assert np.sum((error @ h) * error) == pytest.approx(np.sum((w @ h) * w), rel=0.05)
    rotated, metric = rotate_weight(error.astype(np.float32), 3, 4).astype(np.float64), rotate_hessian(h, 3)
    spread = np.linalg.eigvalsh(metric)
    energies = np.square(rotated @ np.linalg.eigh(metric)[1]).sum(0)
    assert energies[:8].mean() > 3 * energies[-8:].mean()  # less error where the inputs are loud
    assert spread[-1] > 10 * spread[0]


def test_tables_count_rows_by_use(teacher: Path, untied_teacher: Path) -> None:
    for path, modules in ((teacher, {EMBEDDING}), (untied_teacher, {EMBEDDING, HEAD})):
        shape = load_source(path).shape
        predicted = np.full(shape.vocab_size, 1 / shape.vocab_size)
        found = table_problems(shape, np.eye(64), predicted, [(5,) * 30, (6, 7)])
        assert found.keys() == modules
        h, importance = found[EMBEDDING]
        assert h.shape == (64, 64)
        assert importance[5] > importance[6] > importance[8] > 0
