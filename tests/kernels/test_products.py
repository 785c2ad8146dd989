from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import leanto_kernels as kernels
from leanto_kernels import reference

pytestmark = pytest.mark.usefixtures("isa")

SIZES = st.integers(1, 70)


@given(SIZES, st.integers(1, 6), st.integers(1, 5), st.integers(0, 2**32 - 1))
@settings(max_examples=60)
def test_int8_products_equal_the_oracle_bit_for_bit(rows: int, lanes: int, tokens: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    codes = rng.integers(-127, 128, (rows, 32 * lanes), dtype=np.int8)
    x = rng.integers(-127, 128, (tokens, 32 * lanes), dtype=np.int8)
    np.testing.assert_array_equal(kernels.gemv_int8(codes, x), reference.gemv_int8(codes, x))
    np.testing.assert_array_equal(kernels.gemv_int8(codes, x[0]), reference.gemv_int8(codes, x[0]))


@given(SIZES, SIZES, st.integers(1, 5), st.integers(0, 2**32 - 1), st.sampled_from([np.float32, np.float16]))
@settings(max_examples=60)
def test_float_products_stay_within_their_bound(rows: int, columns: int, tokens: int, seed: int, dtype: type) -> None:
    rng = np.random.default_rng(seed)
    weight = rng.standard_normal((rows, columns)).astype(dtype)
    x = rng.standard_normal((tokens, columns)).astype(np.float32)
    error = np.abs(kernels.gemv_dense(weight, x) - reference.gemv_dense(weight, x))
    assert (error <= reference.DENSE_BOUND * np.abs(x) @ np.abs(weight.T).astype(np.float32)).all()


@given(SIZES, st.integers(1, 20), st.integers(1, 5), st.integers(0, 2**32 - 1))
@settings(max_examples=60)
def test_transposed_products_stay_within_their_bound(rows: int, count: int, tokens: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    weight = rng.integers(-127, 128, (count, -(-rows // 32) * 32), dtype=np.int8)
    x = rng.standard_normal((tokens, count)).astype(np.float32)
    ours = kernels.gemv_transposed(weight, x, rows)
    error = np.abs(ours - reference.gemv_transposed(weight, x, rows))
    assert (error <= reference.DENSE_BOUND * np.abs(x) @ np.abs(weight[:, :rows]).astype(np.float32)).all()
    np.testing.assert_array_equal(kernels.gemv_transposed(weight, x[0], rows), ours[0])


def test_a_transposed_matrix_of_other_rows_is_refused() -> None:
    weight, x = np.zeros((3, 64), np.int8), np.zeros(3, np.float32)
    for rows in (0, 32, 65):
        with pytest.raises(ValueError, match="32"):
            kernels.gemv_transposed(weight, x, rows)
    with pytest.raises(ValueError, match="columns"):
        kernels.gemv_transposed(weight, np.zeros(4, np.float32), 64)


def test_every_float16_value_is_read_exactly() -> None:
    values = np.arange(65536, dtype=np.uint32).astype(np.uint16).view(np.float16)
    finite = np.where(np.isfinite(values), values, np.float16(0))[:, None]
    one = np.ones(1, np.float32)
    np.testing.assert_array_equal(kernels.gemv_dense(finite, one), finite[:, 0].astype(np.float32))
    wide = np.repeat(finite.reshape(-1, 8), 1, axis=1)
    for i in range(8):  # through the vector path as well
        np.testing.assert_array_equal(kernels.gemv_dense(wide, np.eye(8, dtype=np.float32)[i]), wide[:, i].astype(np.float32))


def test_the_largest_sums_are_exact_and_longer_ones_refused() -> None:
    codes, x = np.full((1, 1 << 17), 127, np.int8), np.full(1 << 17, 127, np.int8)
    assert kernels.gemv_int8(codes, x).tolist() == [127 * 127 << 17]
    assert kernels.gemv_int8(-codes, x).tolist() == [-127 * 127 << 17]
    longer = np.zeros((8, (1 << 17) + 32), np.int8)
    with pytest.raises(ValueError, match="columns"):
        kernels.gemv_int8(longer, longer[0])
    with pytest.raises(ValueError, match="columns"):
        kernels.gemv_trellis(longer[:1].view(np.uint8), kernels.tables(1), longer[0], 1, 8)


def test_a_matrix_of_another_type_is_refused() -> None:
    with pytest.raises(ValueError, match="float32 or float16"):
        kernels.gemv_dense(np.zeros((2, 2), np.float64), np.zeros(2, np.float32))  # type: ignore[arg-type]


def test_a_vector_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError):
        kernels.gemv_dense(np.zeros((2, 3), np.float32), np.zeros(2, np.float32))
    with pytest.raises(ValueError):
        kernels.gemv_int8(np.zeros((2, 32), np.int8), np.zeros(64, np.int8))
    with pytest.raises(ValueError):
        kernels.gemv_int8(np.zeros((2, 31), np.int8), np.zeros(31, np.int8))
