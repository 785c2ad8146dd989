from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from leanto_edge.artifact.layout import MatrixSpec
from leanto_edge.compress import reference
from leanto_edge.compress.lowrank import Directions, balanced, refit_left, round_factors, solve_left


def problem(rows: int = 40, cols: int = 32, seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    random = np.random.default_rng(seed)
    inputs = random.standard_normal((8 * cols, cols)) * random.lognormal(0, 1, cols)
    return random.standard_normal((rows, cols)).astype(np.float32), inputs.T @ inputs / len(inputs)


def directions(rows: int = 40, cols: int = 32) -> Directions:
    w, h = problem(rows, cols)
    return Directions(w, h, np.eye(cols, dtype=np.float32)[np.argsort(-np.diag(h))])


def energy(e: NDArray[np.floating], h: NDArray[np.float64]) -> float:
    return float(np.trace(e @ h @ e.T))


@settings(max_examples=25)
@given(rows=st.integers(1, 20), cols=st.integers(1, 20), share=st.floats(0, 1))
def test_every_row_space_has_orthonormal_rows(rows: int, cols: int, share: float) -> None:
    rank = max(1, int(share * min(rows, cols)))
    for name, found in directions(rows, cols).row_spaces(rank).items():
        np.testing.assert_allclose(found @ found.T, np.eye(rank), atol=1e-6, err_msg=name)


def test_the_data_row_space_reaches_the_best_low_rank_error() -> None:
    w, h = problem()
    rows = directions().row_spaces(5)["data"]
    left, _ = solve_left(w, h, rows)
    assert energy(w - left @ rows, h) == pytest.approx(energy(w - reference.low_rank(w.astype(np.float64), h, 5), h), rel=1e-6)


def test_the_weight_row_space_leaves_the_least_energy() -> None:
    w, _ = problem()
    rows = directions().row_spaces(5)["weight"]
    left, _ = solve_left(w, None, rows)
    assert np.square(w - left @ rows).sum() == pytest.approx(np.square(np.linalg.svd(w, compute_uv=False)[5:]).sum(), rel=1e-5)


def test_the_outlier_row_space_holds_the_loudest_channels() -> None:
    _, h = problem()
    rows = directions().row_spaces(8)["outlier"]
    loud = np.eye(32)[np.argsort(-np.diag(h))[:4]]
    np.testing.assert_allclose((loud @ rows.T) @ rows, loud, atol=1e-6)


def test_the_hessian_row_space_takes_its_largest_eigenvalues() -> None:
    _, h = problem()
    rows = directions().row_spaces(3)["hessian"]
    assert np.trace(rows @ h @ rows.T) == pytest.approx(np.linalg.eigvalsh(h)[-3:].sum())


def test_no_other_left_factor_is_better() -> None:
    w, h = problem()
    rows = np.random.default_rng(1).standard_normal((4, 32))
    left, gram = solve_left(w, h, rows)
    assert energy(w - left @ rows, h) == pytest.approx(reference.error_with_free_left(w.astype(np.float64), h, rows), rel=1e-6)
    np.testing.assert_allclose(gram, rows @ h @ rows.T)


def test_balanced_factors_span_the_same_product_with_orthogonal_rows() -> None:
    random = np.random.default_rng(0)
    left, rows = random.standard_normal((30, 4)), random.standard_normal((4, 20))
    right, sizes = balanced(left, rows)
    np.testing.assert_allclose(right @ right.T, np.diag(sizes), atol=1e-9)
    np.testing.assert_allclose(np.sort(sizes)[::-1], np.linalg.svd(left @ rows, compute_uv=False)[:4])
    again, _ = solve_left(left @ rows, None, right)
    np.testing.assert_allclose(again @ right, left @ rows, atol=1e-6)


@pytest.mark.parametrize(("bits", "bound"), [(16, 1e-6), (8, 4e-4), (4, 0.025)])
def test_rounded_factors_stay_close_to_their_product(bits: int, bound: float) -> None:
    w, _ = problem(300, 256)
    rows = np.linalg.svd(w)[2][:8].astype(np.float64)
    wanted = w @ rows.T @ rows
    factors = round_factors(w, rows, None, MatrixSpec("trellis", 2, 300, 256, 8, 0, 0, bits))
    assert np.square(factors.product - wanted).sum() < bound * np.square(wanted).sum()


@pytest.mark.parametrize("bits", [4, 8, 16])
def test_a_refit_under_the_hessian_lowers_its_error(bits: int) -> None:
    w, h = problem(96, 64)
    spec = MatrixSpec("trellis", 2, 96, 64, 8, 0, 0, bits)
    rows = np.linalg.svd(w)[2][:8].astype(np.float64)
    factors = round_factors(w, rows, None, spec)
    again = refit_left(w, factors, h, spec)
    assert energy(w - again.product, h) < energy(w - factors.product, h)
    np.testing.assert_array_equal(again.right, factors.right)


@pytest.mark.parametrize("bits", [4, 8, 16])
def test_a_zero_weight_has_zero_factors(bits: int) -> None:
    spec = MatrixSpec("trellis", 2, 16, 32, 8, 0, 0, bits)
    factors = round_factors(np.zeros((16, 32), np.float32), np.eye(32)[:8], None, spec)
    np.testing.assert_array_equal(factors.product, 0)


def test_factors_beyond_float16_are_refused() -> None:
    w = np.full((16, 32), 1e11, np.float32)
    with pytest.raises(ValueError, match="too large for float16"):
        round_factors(w, np.full((1, 32), 32**-0.5), None, MatrixSpec("trellis", 2, 16, 32, 1))
