from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import leanto_kernels as kernels
from leanto_kernels import reference

pytestmark = pytest.mark.usefixtures("isa")

FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)


@given(hnp.arrays(np.float32, st.integers(1, 70), elements=FLOATS))
@settings(max_examples=150)
def test_codes_and_scale_equal_the_oracle(x: np.ndarray) -> None:
    codes, scale = kernels.quantize_activations(x)
    expected, expected_scale = reference.quantize_activations(x)
    np.testing.assert_array_equal(codes, expected)
    assert scale == expected_scale


@given(hnp.arrays(np.float32, st.integers(1, 70), elements=st.floats(-1e6, 1e6, width=32)))
@settings(max_examples=60)
def test_an_error_is_at_most_half_a_step(x: np.ndarray) -> None:
    codes, scale = kernels.quantize_activations(x)
    assert np.abs(codes * np.float64(scale) - x).max() <= 0.5001 * scale + 1e-30


def test_halves_are_rounded_to_even() -> None:
    x = np.array([127, 0.5, 1.5, 2.5, -0.5, -1.5, -2.5], np.float32)
    assert kernels.quantize_activations(x)[0].tolist() == [127, 0, 2, 2, 0, -2, -2]


def test_zeros_have_scale_zero() -> None:
    codes, scale = kernels.quantize_activations(np.zeros(33, np.float32))
    assert scale == 0
    assert not codes.any()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("at", [0, 8, 16])
def test_a_value_that_is_not_finite_makes_the_scale_nan(bad: float, at: int) -> None:
    x = np.ones(17, np.float32)
    x[at] = bad
    codes, scale = kernels.quantize_activations(x)
    assert np.isnan(scale)
    assert not codes.any()
