from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch

from leanto_edge.artifact.layout import MatrixSpec
from leanto_edge.compress.learnable import LearnableMatrix
from leanto_edge.compress.matrix import CompressedMatrix, compress_matrix, decompress_matrix

SPECS = [
    MatrixSpec("trellis", 2, 96, 64, 0, 5, 6),
    MatrixSpec("trellis", 3, 40, 64, 8, 5, 6, 8),
    MatrixSpec("additive", 2, 64, 40, 8, 5, 6, 4),
    MatrixSpec("scalar", 4, 33, 20, 4, 5, 0, 16),
    MatrixSpec("int8", 8, 33, 20, 4, 5, 0, 8),
    MatrixSpec("int8", 8, 33, 20),
]


def compressed(spec: MatrixSpec) -> CompressedMatrix:
    random = np.random.default_rng(1)
    w, inputs = random.standard_normal((spec.rows, spec.cols)), random.standard_normal((200, spec.cols))
    with ThreadPoolExecutor(1) as executor:
        return compress_matrix(w.astype(np.float32), inputs.T @ inputs / 200, spec, sweeps=0, executor=executor)


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_before_learning_it_is_the_matrix_that_is_stored(spec: MatrixSpec) -> None:
    matrix = compressed(spec)
    learnable = LearnableMatrix(matrix)
    stored = decompress_matrix(spec, matrix.tensors)
    np.testing.assert_allclose(learnable.weight().detach().numpy(), stored, atol=2e-5 * np.abs(stored).max())
    rounded = learnable.rounded()
    assert rounded.tensors.keys() == matrix.tensors.keys()
    for name, tensor in matrix.tensors.items():
        assert (rounded.tensors[name].dtype, rounded.tensors[name].shape) == (tensor.dtype, tensor.shape)
    np.testing.assert_allclose(decompress_matrix(spec, rounded.tensors), stored, atol=0.02 * np.abs(stored).max())


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_the_gradients_are_those_of_finite_differences(spec: MatrixSpec) -> None:
    learnable, random = LearnableMatrix(compressed(spec)), np.random.default_rng(2)
    direction = torch.from_numpy(random.standard_normal((spec.rows, spec.cols)).astype(np.float32))

    def loss() -> Any:
        return (learnable.weight() * direction).sum()

    parameters = [parameter for parameter, _ in learnable.parameters()]
    loss().backward()
    for parameter in parameters:
        step = torch.from_numpy(random.standard_normal(tuple(parameter.shape)).astype(np.float32))
        expected = float((parameter.grad * step).sum())
        with torch.no_grad():
            parameter += 1e-2 * step
            above = float(loss())
            parameter -= 2e-2 * step
            below = float(loss())
            parameter += 1e-2 * step
        assert (above - below) / 2e-2 == pytest.approx(expected, rel=0.02, abs=0.02 * float(direction.norm()))


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_what_was_learnt_is_in_what_is_stored(spec: MatrixSpec) -> None:
    learnable = LearnableMatrix(compressed(spec))
    before = decompress_matrix(spec, learnable.rounded().tensors)
    with torch.no_grad():
        for parameter, size in learnable.parameters():
            parameter += 0.05 * size
    wanted = learnable.weight().detach().numpy()
    after = decompress_matrix(spec, learnable.rounded().tensors)
    assert np.square(after - wanted).sum() < 0.1 * np.square(before - wanted).sum()


def test_tables_never_leave_the_range_of_the_format() -> None:
    learnable = LearnableMatrix(compressed(SPECS[0]))
    with torch.no_grad():
        learnable.tables += 100.0
    a, b = learnable.rounded().tensors["tables"].astype(int)
    assert np.abs(np.add.outer(a, b)).max() <= 127
