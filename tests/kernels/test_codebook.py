from __future__ import annotations

import numpy as np
import pytest

import leanto_kernels as kernels
from leanto_kernels import codebook, reference


@pytest.mark.parametrize("bits", [1, 2, 3, 4])
def test_a_normal_source_is_coded_with_the_stated_error(bits: int) -> None:
    x = np.random.default_rng(5).standard_normal((256, 64)).astype(np.float32)
    codes, values = kernels.encode_trellis(x / np.float32(kernels.unit(bits)), kernels.tables(bits), bits)
    np.testing.assert_array_equal(values, reference.decode_trellis(codes, kernels.tables(bits), bits, 256))
    error = np.square(x - values * np.float32(kernels.unit(bits))).mean()
    assert error == pytest.approx(codebook.GAUSSIAN_ERROR[bits], rel=0.05)


@pytest.mark.parametrize("bits", [1, 2, 3, 4])
def test_the_sums_of_two_entries_fit_the_format(bits: int) -> None:
    a, b = kernels.tables(bits).astype(int)
    assert np.abs(a[:, None] + b).max() <= 127


@pytest.mark.parametrize("bits", [0, 5, -1])
def test_other_bit_widths_have_no_codebook(bits: int) -> None:
    with pytest.raises(ValueError, match=str(bits)):
        kernels.tables(bits)
    with pytest.raises(ValueError, match=str(bits)):
        kernels.unit(bits)


def test_changing_a_returned_table_changes_no_other() -> None:
    kernels.tables(2)[:] = 0
    assert kernels.tables(2).any()
