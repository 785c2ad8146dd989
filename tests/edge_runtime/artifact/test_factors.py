from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leanto_edge.artifact.factors import dense_factors
from leanto_edge.artifact.layout import MatrixSpec
from leanto_kernels import reference, tables


def test_rank_0_has_empty_factors() -> None:
    left, right = dense_factors(MatrixSpec("trellis", 2, 5, 7), {})
    assert (left.shape, right.shape) == ((5, 0), (0, 7))


def test_float16_factors_are_taken_as_they_are() -> None:
    tensors = {"left": np.array([[1], [2]], np.float16), "right": np.array([[3, 4, 5]], np.float16)}
    left, right = dense_factors(MatrixSpec("trellis", 2, 2, 3, 1), tensors)
    assert left.dtype == right.dtype == np.float32
    np.testing.assert_array_equal(left @ right, [[3, 4, 5], [6, 8, 10]])


def test_an_int8_left_lies_transposed_and_padded() -> None:
    left, right = np.full((1, 32), 99, np.int8), np.full((1, 32), 99, np.int8)
    left[0, :2], right[0, :3] = (1, -2), (3, 4, 5)
    scales = {"left_scales": np.array([0.5], np.float16), "right_scales": np.array([2], np.float32)}
    found = dense_factors(MatrixSpec("trellis", 2, 2, 3, 1, 0, 0, 8), {"left": left, "right": right, **scales})
    np.testing.assert_array_equal(found[0], [[0.5], [-1]])
    np.testing.assert_array_equal(found[1], [[6, 8, 10]])


@settings(max_examples=20)
@given(rank=st.sampled_from([8, 16, 24]), rows=st.integers(24, 70), cols=st.integers(24, 70), seed=st.integers(0, 99))
def test_four_bit_factors_are_trellis_codes_down_the_rank(rank: int, rows: int, cols: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    spec = MatrixSpec("trellis", 2, rows, cols, rank, 0, 0, 4)
    tensors = {}
    for name, tensor in spec.tensors("m").items():
        shape = tensor.shape
        if name.endswith("_scales"):
            tensors[name[2:]] = random.standard_normal(shape).astype(np.float16)
        elif name.endswith((".left", ".right")):
            tensors[name[2:]] = random.integers(0, 256, shape, np.uint8)
    tensors["factor_tables"] = tables(4)
    for found, side, length in zip(dense_factors(spec, tensors), ("left", "right"), (rows, cols), strict=True):
        values = reference.decode_trellis(tensors[side], tables(4), 4, rank)[:, :length]
        expected = values * tensors[f"{side}_scales"].astype(np.float32)[:, None]
        np.testing.assert_array_equal(found.T if side == "left" else found, expected)


def test_a_missing_tensor_is_an_error() -> None:
    with pytest.raises(KeyError):
        dense_factors(MatrixSpec("trellis", 2, 8, 8, 8, 0, 0, 4), {})
