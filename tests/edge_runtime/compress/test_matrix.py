from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from leanto_edge.artifact.layout import MatrixSpec
from leanto_edge.compress.incoherence import restore_weight, rotate_hessian, rotate_weight, rotation_seed
from leanto_edge.compress.lowrank import fit_low_rank
from leanto_edge.compress.matrix import CompressedMatrix, compress_matrix, decompress_matrix
from leanto_kernels import reference


def problem(rows: int, cols: int, seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    random = np.random.default_rng(seed)
    inputs = random.standard_normal((4 * cols + 8, cols)) * random.lognormal(0, 1, cols)
    return random.standard_normal((rows, cols)).astype(np.float32), inputs.T @ inputs / len(inputs)


def compressed(spec: MatrixSpec, seed: int = 0, sweeps: int = 1) -> tuple[NDArray[np.float32], CompressedMatrix]:
    w, h = problem(spec.rows, spec.cols, seed)
    with ThreadPoolExecutor(2) as executor:
        return w, compress_matrix(w, h, spec, sweeps=sweeps, executor=executor)


# Largest relative error tr(E H Eᵀ) / tr(W H Wᵀ) of a normal matrix under a lively Hessian: below the plain Gaussian error of the code.
ERROR_BOUND = {("trellis", 1): 0.25, ("trellis", 2): 0.065, ("trellis", 3): 0.018, ("trellis", 4): 0.005, ("int8", 8): 5e-5}


@pytest.mark.parametrize(("kind", "bits"), ERROR_BOUND)
def test_the_error_stays_within_its_bound(kind: str, bits: int) -> None:
    spec = MatrixSpec(kind, bits, 300, 96, 0, 5, 0 if kind == "int8" else 6)  # type: ignore[arg-type]
    _, matrix = compressed(spec)
    assert matrix.error < ERROR_BOUND[kind, bits]


@settings(max_examples=12)
@given(rows=st.integers(1, 40), cols=st.integers(1, 40), bits=st.sampled_from([1, 2, 3, 4, 8]))
def test_any_size_has_the_shapes_of_the_format(rows: int, cols: int, bits: int) -> None:
    spec = MatrixSpec("int8" if bits == 8 else "trellis", bits, rows, cols, 0, 3, 0 if bits == 8 else 4)
    w, matrix = compressed(spec)
    expected = {name: tensor.shape for name, tensor in spec.tensors("m").items()}
    assert {f"m.{name}": tensor.shape for name, tensor in matrix.tensors.items()} == expected
    assert decompress_matrix(spec, matrix.tensors).shape == w.shape


def test_the_reported_error_is_that_of_the_decompressed_weight() -> None:
    spec = MatrixSpec("trellis", 2, 72, 48, 2, 11, 12)
    w, matrix = compressed(spec)
    _, h = problem(72, 48)
    h = h + 0.01 * np.trace(h) / 48 * np.eye(48)
    error = w - decompress_matrix(spec, matrix.tensors)
    measured = np.einsum("ij,jk,ik->", error, h, error) / np.einsum("ij,jk,ik->", w, h, w)
    assert matrix.error == pytest.approx(measured, rel=1e-3)


def test_an_important_row_is_met_better() -> None:
    w, h = problem(64, 64)
    spec, importance = MatrixSpec("trellis", 2, 64, 64, 0, 1, 0), np.ones(64, np.float32)
    importance[::8] = 20
    with ThreadPoolExecutor(1) as executor:
        found = [compress_matrix(w, h, spec, sweeps=1, executor=executor, importance=chosen) for chosen in (None, importance)]
    even, uneven = (np.square(w - decompress_matrix(spec, matrix.tensors))[::8].sum() for matrix in found)
    assert uneven < 0.6 * even


def test_a_zero_matrix_comes_back_as_zeros() -> None:
    spec = MatrixSpec("trellis", 3, 16, 32, 0, 1, 2)
    with ThreadPoolExecutor(1) as executor:
        matrix = compress_matrix(np.zeros((16, 32), np.float32), np.eye(32), spec, sweeps=1, executor=executor)
    assert matrix.error == 0
    np.testing.assert_array_equal(decompress_matrix(spec, matrix.tensors), 0)


def test_a_hessian_without_full_rank_is_no_obstacle() -> None:
    w = np.random.default_rng(0).standard_normal((16, 32)).astype(np.float32)
    with ThreadPoolExecutor(1) as executor:
        for h in (np.zeros((32, 32)), np.ones((32, 32))):
            matrix = compress_matrix(w, h, MatrixSpec("trellis", 4, 16, 32, 0, 1, 2), sweeps=1, executor=executor)
            assert np.isfinite(matrix.error)


def test_small_scales_are_kept_in_float32() -> None:
    w, h = problem(16, 32)
    spec = MatrixSpec("trellis", 4, 16, 32, 0, 1, 2)
    with ThreadPoolExecutor(1) as executor:
        small = compress_matrix(w * 1e-5, h, spec, sweeps=1, executor=executor)
        usual = compress_matrix(w, h, spec, sweeps=1, executor=executor)
    assert (small.tensors["scales"].dtype, usual.tensors["scales"].dtype) == (np.float32, np.float16)
    assert small.error < 1.2 * usual.error


def test_a_low_rank_term_takes_what_is_of_low_rank() -> None:
    w, h = problem(64, 64)
    random = np.random.default_rng(5)
    w += 10 * (random.standard_normal((64, 2)) @ random.standard_normal((2, 64))).astype(np.float32)
    with ThreadPoolExecutor(1) as executor:
        errors = [compress_matrix(w, h, MatrixSpec("trellis", 2, 64, 64, rank, 1, 2), sweeps=0, executor=executor).error for rank in (0, 2)]
    assert errors[1] < 0.2 * errors[0]


def test_no_other_factors_of_that_rank_are_better() -> None:
    w, h = problem(24, 16)
    left, right = fit_low_rank(w, h, 3)
    error = w - left.astype(np.float64) @ right.astype(np.float64)
    root = np.linalg.cholesky(h)
    optimum = np.square(np.linalg.svd(w @ root, compute_uv=False)[3:]).sum()
    assert np.square(error @ root).sum() == pytest.approx(optimum, rel=1e-3)


@pytest.mark.parametrize("dimensions", [(64, 172), (1, 7), (96, 288)])
def test_rotations_are_those_of_the_reference_and_are_undone(dimensions: tuple[int, int]) -> None:
    m, n = dimensions
    w, h = problem(m, n)
    rotated = rotate_weight(w, 5, 6)
    np.testing.assert_allclose(rotated, reference.rotation(m, 6) @ w @ reference.rotation(n, 5).T, atol=2e-5 * np.abs(w).max())
    np.testing.assert_allclose(restore_weight(rotated, 5, 6), w, atol=2e-5 * np.abs(w).max())
    r = reference.rotation(n, 5)
    expected = r @ (h / np.trace(h) * n) @ r.T
    np.testing.assert_allclose(rotate_hessian(h, 5), expected, atol=1e-5 * np.abs(expected).max())


def test_seeds_differ_by_name_and_are_zero_where_the_kernels_cannot_rotate() -> None:
    assert rotation_seed(0, "a", 64) != rotation_seed(0, "b", 64)
    assert rotation_seed(0, "a", 64) == rotation_seed(0, "a", 64) > 0
    assert rotation_seed(0, "a", 1025) == 0


BAD: dict[str, tuple[Any, Any, str]] = {
    "a weight that is no number": (np.nan, None, "not finite"),
    "an infinite weight": (np.inf, None, "not finite"),
    "a weight out of all proportion": (1e20, None, "beyond"),
    "a Hessian that is no number": (None, np.nan, "not finite"),
    "an infinite Hessian": (None, np.inf, "not finite"),
    "a Hessian with a negative diagonal": (None, -1e3, "not symmetric with a diagonal"),
}


@pytest.mark.parametrize("case", BAD)
def test_numbers_that_make_no_sense_are_refused(case: str) -> None:
    w, h = problem(16, 32)
    weight, square, reason = BAD[case]
    if weight is not None:
        w[3, 5] = weight
    if square is not None:
        h[4, 4] = square
    with ThreadPoolExecutor(1) as executor, pytest.raises(ValueError, match=reason):
        compress_matrix(w, h, MatrixSpec("trellis", 2, 16, 32, 0, 1, 2), sweeps=1, executor=executor)


@pytest.mark.parametrize("bits", [1, 2, 8])
@pytest.mark.parametrize(("rows", "cols"), [(1, 1), (7, 1), (1, 7), (288, 7), (7, 288), (11008, 7), (16, 1376)])
def test_awkward_sizes_come_out_right(rows: int, cols: int, bits: int) -> None:
    kind: Any = "int8" if bits == 8 else "trellis"
    spec = MatrixSpec(kind, bits, rows, cols, 0, rotation_seed(0, "in", cols), 0 if bits == 8 else rotation_seed(0, "out", rows))
    w, matrix = compressed(spec, sweeps=1 if cols > 1000 else 2)
    found = decompress_matrix(spec, matrix.tensors)
    assert found.shape == w.shape
    assert np.isfinite(found).all()
    assert matrix.error <= (1.0 if rows * cols < 64 else {1: 0.6, 2: 0.2, 8: 1e-3}[bits]) + 1e-6
