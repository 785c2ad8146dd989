from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import leanto_kernels as kernels
from leanto_kernels import reference

pytestmark = pytest.mark.usefixtures("isa")

DIMENSIONS = st.one_of(st.integers(1, 130), st.sampled_from([172, 256, 320, 384, 512, 688, 768]))
SEEDS = st.integers(1, 2**63 - 1)


def vectors(dimension: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((3, dimension)).astype(np.float32)


@given(DIMENSIONS, SEEDS)
@settings(max_examples=60)
def test_rotation_and_transpose_stay_within_their_bound(dimension: int, seed: int) -> None:
    x = vectors(dimension, seed)
    bound = reference.ROTATE_BOUND * np.linalg.norm(x, axis=1, keepdims=True)
    assert (np.abs(kernels.rotate(x, seed) - reference.rotate(x, seed)) <= bound).all()
    assert (np.abs(kernels.rotate_transpose(x, seed) - reference.rotate_transpose(x, seed)) <= bound).all()


@given(DIMENSIONS, SEEDS)
@settings(max_examples=60)
def test_the_transpose_undoes_the_rotation(dimension: int, seed: int) -> None:
    x = vectors(dimension, seed)
    back = kernels.rotate_transpose(kernels.rotate(x, seed), seed)
    assert (np.abs(back - x) <= 2 * reference.ROTATE_BOUND * np.linalg.norm(x, axis=1, keepdims=True)).all()


def test_seed_zero_is_the_identity() -> None:
    x = vectors(48, 1)
    np.testing.assert_array_equal(kernels.rotate(x, 0), x)
    np.testing.assert_array_equal(kernels.rotate_transpose(x, 0), x)


def test_the_signs_are_the_top_bits_of_splitmix64() -> None:
    published = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431, 16408922859458223821]
    signs = [-1 if z >> 63 else 1 for z in published]
    assert reference.signs(5, 1234567).tolist() == signs
    basis = np.eye(8, dtype=np.float32)[:5]
    assert np.sign(kernels.rotate(basis, 1234567)[:, 0]).tolist() == signs


def test_the_axes_before_the_last_are_a_batch() -> None:
    x = vectors(24, 2).reshape(3, 1, 24)
    np.testing.assert_array_equal(kernels.rotate(x, 9)[1, 0], kernels.rotate(x[1, 0], 9))


def test_a_dimension_with_a_huge_odd_factor_is_refused() -> None:
    with pytest.raises(ValueError, match="odd factor"):
        kernels.rotate(np.zeros(2 * 1031, np.float32), 1)


@pytest.mark.parametrize("shape", [(), (0,), (3, 0)])
def test_empty_vectors_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError):
        kernels.rotate(np.zeros(shape, np.float32), 1)
