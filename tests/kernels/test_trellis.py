from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import leanto_kernels as kernels
from leanto_kernels import reference

pytestmark = pytest.mark.usefixtures("isa")

KINDS = ("trellis", "additive", "scalar")
kinds = st.sampled_from(KINDS)
BITS = st.integers(1, 4)
ROWS = st.one_of(st.integers(1, 40), st.sampled_from([255, 256, 257, 264, 511, 512, 520, 600]))
COLUMNS = st.integers(1, 5).map(lambda n: 32 * n)
SEEDS = st.integers(0, 2**32 - 1)


def random_codes(bits: int, rows: int, columns: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (-(-rows // 8) * bits, columns), dtype=np.uint8)


def random_tables(kind: str, seed: int) -> np.ndarray:
    tables = np.random.default_rng(seed).integers(-63, 64, (2, 16), dtype=np.int8)
    return tables * np.array([[2], [0]], np.int8) if kind == "scalar" else tables


@given(kinds, BITS, ROWS, COLUMNS, SEEDS)
@settings(max_examples=120)
def test_decoding_equals_the_oracle_bit_for_bit(kind: str, bits: int, rows: int, columns: int, seed: int) -> None:
    codes, tables = random_codes(bits, rows, columns, seed), random_tables(kind, seed)
    ours = kernels.decode_trellis(codes, tables, bits, rows, kind=kind)
    np.testing.assert_array_equal(ours, reference.decode_trellis(codes, tables, bits, rows, kind=kind))


@given(kinds, BITS, ROWS, COLUMNS, SEEDS, st.integers(1, 5))
@settings(max_examples=120)
def test_products_equal_the_oracle_bit_for_bit(kind: str, bits: int, rows: int, columns: int, seed: int, tokens: int) -> None:
    codes, tables = random_codes(bits, rows, columns, seed), random_tables(kind, seed)
    x = np.random.default_rng(seed + 1).integers(-127, 128, (tokens, columns), dtype=np.int8)
    many = kernels.gemv_trellis(codes, tables, x, bits, rows, kind=kind)
    np.testing.assert_array_equal(many, reference.gemv_trellis(codes, tables, x, bits, rows, kind=kind))
    np.testing.assert_array_equal(kernels.gemv_trellis(codes, tables, x[0], bits, rows, kind=kind), many[0])


@pytest.mark.parametrize("bits", [1, 2, 3, 4])
@pytest.mark.parametrize("kind", KINDS)
def test_every_window_is_read_as_the_format_says(kind: str, bits: int) -> None:
    tables = (np.arange(-16, 16, dtype=np.int8) * np.int8(3)).reshape(2, 16)
    tables[1] *= kind != "scalar"
    width = reference.window_bits(bits, kind)
    windows = np.arange(1 << width)
    strings = np.zeros((8 * bits, -(-len(windows) // 32) * 32), np.uint8)  # row 0 reads the first `width` bits of its column
    for i in range(min(width, 8 * bits)):
        strings[i, : len(windows)] = windows >> i & 1
    codes = np.packbits(strings, axis=0, bitorder="little")
    expected = reference.decode_trellis(codes, tables, bits, 8, kind=kind)
    if width <= 8 * bits:
        np.testing.assert_array_equal(expected[0, : len(windows)], reference.window_values(windows, tables, kind))
    np.testing.assert_array_equal(kernels.decode_trellis(codes, tables, bits, 8, kind=kind), expected)


@pytest.mark.parametrize("bits", [1, 2, 3, 4])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("weight", "x"), [(127, 127), (127, -127), (-127, 127), (-127, -127), (0, 127), (127, 0)])
def test_extreme_values_do_not_saturate(kind: str, bits: int, weight: int, x: int) -> None:
    tables = np.stack([np.full(16, weight, np.int8), np.zeros(16, np.int8)])
    codes, vector = random_codes(bits, 24, 4096, 1), np.full(4096, x, np.int8)
    np.testing.assert_array_equal(kernels.gemv_trellis(codes, tables, vector, bits, 24, kind=kind), 4096 * weight * x)


@pytest.mark.parametrize("kind", KINDS)
def test_the_smallest_block_wraps_around_within_one_byte(kind: str) -> None:
    codes = np.repeat(np.array([[0b10110001]], np.uint8), 32, axis=1)
    tables = random_tables(kind, 1)
    ours = kernels.decode_trellis(codes, tables, 1, 8, kind=kind)
    np.testing.assert_array_equal(ours, reference.decode_trellis(codes, tables, 1, 8, kind=kind))


@pytest.mark.parametrize(
    ("codes", "tables", "x", "bits", "rows"),
    [
        ((15, 32), (2, 16), (32,), 4, 32),
        ((16, 33), (2, 16), (33,), 4, 32),
        ((16, 0), (2, 16), (0,), 4, 32),
        ((16, 32), (2, 15), (32,), 4, 32),
        ((16, 32), (2, 16), (31,), 4, 32),
        ((16, 32), (2, 16), (1, 1, 32), 4, 32),
        ((16, 32), (2, 16), (32,), 5, 32),
        ((16, 32), (2, 16), (32,), 0, 32),
        ((0, 32), (2, 16), (32,), 4, 0),
        ((16, 32), (2, 16), (32,), 4, 2**62),
    ],
)
def test_shapes_that_do_not_fit_are_refused(
    codes: tuple[int, ...], tables: tuple[int, ...], x: tuple[int, ...], bits: int, rows: int
) -> None:
    with pytest.raises(ValueError):
        kernels.gemv_trellis(np.zeros(codes, np.uint8), np.zeros(tables, np.int8), np.zeros(x, np.int8), bits, rows)


@pytest.mark.parametrize("kind", ["trellis", "additive"])
def test_tables_whose_sums_overflow_int8_are_refused(kind: str) -> None:
    tables = np.full((2, 16), 64, np.int8)
    with pytest.raises(ValueError, match="127"):
        kernels.decode_trellis(np.zeros((2, 32), np.uint8), tables, 2, 8, kind=kind)


def test_scalar_codes_have_one_table_and_no_128() -> None:
    codes, tables = np.zeros((2, 32), np.uint8), np.zeros((2, 16), np.int8)
    tables[0, 15] = -128
    with pytest.raises(ValueError, match="127"):
        kernels.decode_trellis(codes, tables, 2, 8, kind="scalar")
    tables[0, 15], tables[1, 3] = 0, 1
    with pytest.raises(ValueError, match="zero"):
        kernels.decode_trellis(codes, tables, 2, 8, kind="scalar")


@pytest.mark.parametrize("kind", ["", "lattice", "int8", "Trellis"])
def test_an_unknown_kind_is_refused_with_those_that_exist(kind: str) -> None:
    with pytest.raises(ValueError, match="trellis, additive or scalar"):
        kernels.decode_trellis(np.zeros((2, 32), np.uint8), np.zeros((2, 16), np.int8), 2, 8, kind=kind)
