from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import leanto_kernels
from leanto_kernels import encode_trellis, reference, set_isa, tables, unit

# Mean squared error of N(0, 1) in tail-biting blocks of 256 rows that the encoder must reach at each bit width.
GAUSSIAN_BOUND = {1: 0.280, 2: 0.0745, 3: 0.0199, 4: 0.0058}

bit_widths = st.sampled_from([1, 2, 3, 4])


def normal(rows: int, columns: int, seed: int, bits: int) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal((rows, columns)) / unit(bits)).astype(np.float32)


@settings(max_examples=25, deadline=None)
@given(bits=bit_widths, groups=st.integers(1, 40), columns=st.integers(1, 3), seed=st.integers(0, 99))
def test_the_codes_decode_to_the_returned_values(bits: int, groups: int, columns: int, seed: int) -> None:
    codes, values = encode_trellis(normal(8 * groups, columns, seed, bits), tables(bits), bits)
    assert codes.shape == (groups * bits, columns)
    np.testing.assert_array_equal(reference.decode_trellis(codes, tables(bits), bits, 8 * groups), values)


@pytest.mark.parametrize("bits", [1, 2, 3, 4])
def test_gaussian_targets_are_met_within_the_bound(bits: int) -> None:
    x = normal(256, 96, 0, bits)
    _, values = encode_trellis(x, tables(bits), bits)
    assert np.square((x - values) * unit(bits)).mean() < GAUSSIAN_BOUND[bits]


@pytest.mark.parametrize("bits", [1, 2, 3, 4])
def test_both_instruction_sets_choose_the_same_codes(bits: int) -> None:
    x = normal(264, 2, 1, bits)
    before = leanto_kernels.isa()
    try:
        set_isa("scalar")
        portable = encode_trellis(x, tables(bits), bits)[0]
    finally:
        set_isa(before)
    np.testing.assert_array_equal(portable, encode_trellis(x, tables(bits), bits)[0])


@settings(max_examples=10, deadline=None)
@given(bits=bit_widths, threads=st.integers(1, 4))
def test_the_number_of_threads_changes_nothing(bits: int, threads: int) -> None:
    x = normal(520, 3, 2, bits)
    np.testing.assert_array_equal(encode_trellis(x, tables(bits), bits, threads=threads)[0], encode_trellis(x, tables(bits), bits)[0])


def test_the_shortest_string_at_one_bit_is_the_best_of_all() -> None:
    x = normal(8, 1, 3, 1)
    strings = np.arange(256, dtype=np.uint8)[None, :]
    errors = np.square(x - reference.decode_trellis(strings, tables(1), 1, 8).astype(np.float32)).sum(0)
    codes, values = encode_trellis(x, tables(1), 1)
    assert np.square(x - values).sum() == pytest.approx(errors.min(), rel=1e-6)
    assert errors[codes[0, 0]] == pytest.approx(errors.min(), rel=1e-6)


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_targets_that_a_code_decodes_to_are_met_exactly(bits: int) -> None:
    codes = np.random.default_rng(4).integers(0, 256, (32 * bits, 8), np.uint8)
    values = reference.decode_trellis(codes, tables(bits), bits, 256)
    np.testing.assert_array_equal(encode_trellis(values.astype(np.float32), tables(bits), bits)[1], values)


def test_a_row_of_no_weight_is_free_and_helps_the_others() -> None:
    x = normal(64, 32, 5, 2)
    weights = np.ones(64, np.float32)
    weights[::2] = 0
    _, free = encode_trellis(x, tables(2), 2, weights=weights)
    _, bound = encode_trellis(x, tables(2), 2)
    kept = slice(1, None, 2)
    assert np.square(x - free)[kept].sum() < 0.5 * np.square(x - bound)[kept].sum()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"bits": 5}, "bits"),
        ({"bits": 0}, "bits"),
        ({"x": np.zeros((12, 1), np.float32)}, "multiple of 8"),
        ({"x": np.zeros((0, 1), np.float32)}, "multiple of 8"),
        ({"x": np.full((8, 1), np.nan, np.float32)}, "not finite"),
        ({"weights": np.ones(7, np.float32)}, "one entry per row"),
        ({"weights": np.full(8, -1, np.float32)}, "negative"),
        ({"tables": np.full((2, 16), 64, np.int8)}, "127"),
    ],
)
def test_wrong_input_is_refused(change: dict[str, object], reason: str) -> None:
    arguments: dict[str, object] = {"x": np.zeros((8, 1), np.float32), "tables": tables(2), "bits": 2}
    with pytest.raises(ValueError, match=reason):
        encode_trellis(**{**arguments, **change})  # type: ignore[arg-type]
