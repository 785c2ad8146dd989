from __future__ import annotations

import numpy as np
import pytest

import leanto_kernels as kernels
from leanto_kernels import codebook, reference

KINDS = ("trellis", "additive", "scalar")


@pytest.mark.parametrize("bits", [1, 2, 3, 4])
@pytest.mark.parametrize("kind", KINDS)
def test_a_normal_source_is_coded_with_the_stated_error(kind: str, bits: int) -> None:
    x = np.random.default_rng(5).standard_normal((256, 128)).astype(np.float32)
    tables, unit = kernels.tables(bits, kind=kind), np.float32(kernels.unit(bits, kind=kind))
    codes, values = kernels.encode_trellis(x / unit, tables, bits, kind=kind)
    np.testing.assert_array_equal(values, reference.decode_trellis(codes, tables, bits, 256, kind=kind))
    assert np.square(x - values * unit).mean() == pytest.approx(codebook.GAUSSIAN_ERROR[kind][bits], rel=0.05)


@pytest.mark.parametrize("bits", [1, 2, 3, 4])
@pytest.mark.parametrize("kind", KINDS)
def test_the_sums_of_two_entries_fit_the_format(kind: str, bits: int) -> None:
    a, b = kernels.tables(bits, kind=kind).astype(int)
    assert np.abs(a[:, None] + b).max() <= 127
    assert kind != "scalar" or not b.any()


@pytest.mark.parametrize("bits", [1, 2, 3, 4])
def test_longer_windows_code_a_normal_source_better(bits: int) -> None:
    error = codebook.GAUSSIAN_ERROR
    assert error["trellis"][bits] < error["additive"][bits] < error["scalar"][bits]


@pytest.mark.parametrize(("bits", "kind"), [(0, "trellis"), (5, "additive"), (-1, "scalar"), (2, "lattice")])
def test_codebooks_that_do_not_exist_are_named(bits: int, kind: str) -> None:
    for call in (kernels.tables, kernels.unit):
        with pytest.raises(ValueError, match=f"{kind} codebook for {bits} bits"):
            call(bits, kind=kind)


def test_changing_a_returned_table_changes_no_other() -> None:
    kernels.tables(2)[:] = 0
    assert kernels.tables(2).any()
