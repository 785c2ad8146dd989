from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import leanto_kernels
from leanto_kernels import encode_trellis, reference, set_isa, tables, unit

# Mean squared error of N(0, 1) in tail-biting blocks of 256 rows that the encoder must reach for each kind at each bit width.
GAUSSIAN_BOUND = {
    "trellis": {1: 0.280, 2: 0.0745, 3: 0.0199, 4: 0.0058},
    "additive": {1: 0.302, 2: 0.0842, 3: 0.0240, 4: 0.0069},
    "scalar": {1: 0.370, 2: 0.120, 3: 0.0358, 4: 0.0102},
}
KINDS = tuple(GAUSSIAN_BOUND)

kinds = st.sampled_from(KINDS)
bit_widths = st.sampled_from([1, 2, 3, 4])


def normal(rows: int, columns: int, seed: int, bits: int, kind: str = "trellis") -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal((rows, columns)) / unit(bits, kind=kind)).astype(np.float32)


@settings(max_examples=60)
@given(kind=kinds, bits=bit_widths, groups=st.integers(1, 40), columns=st.integers(1, 3), seed=st.integers(0, 99))
def test_the_codes_decode_to_the_returned_values(kind: str, bits: int, groups: int, columns: int, seed: int) -> None:
    book = tables(bits, kind=kind)
    codes, values = encode_trellis(normal(8 * groups, columns, seed, bits, kind), book, bits, kind=kind)
    assert codes.shape == (groups * bits, columns)
    np.testing.assert_array_equal(reference.decode_trellis(codes, book, bits, 8 * groups, kind=kind), values)


@pytest.mark.parametrize("bits", [1, 2, 3, 4])
@pytest.mark.parametrize("kind", KINDS)
def test_gaussian_targets_are_met_within_the_bound(kind: str, bits: int) -> None:
    x = normal(256, 96, 0, bits, kind)
    _, values = encode_trellis(x, tables(bits, kind=kind), bits, kind=kind)
    assert np.square((x - values) * unit(bits, kind=kind)).mean() < GAUSSIAN_BOUND[kind][bits]


@pytest.mark.parametrize("bits", [1, 2, 3, 4])
@pytest.mark.parametrize("kind", KINDS)
def test_all_instruction_sets_choose_the_same_codes(isas: list[str], kind: str, bits: int) -> None:
    x, book = normal(264, 2, 1, bits, kind), tables(bits, kind=kind)
    weights = np.random.default_rng(8).uniform(0, 1, 264).astype(np.float32)
    before, codes = leanto_kernels.isa(), []
    try:
        for name in isas:
            set_isa(name)
            codes.append(encode_trellis(x, book, bits, weights=weights, kind=kind)[0])
    finally:
        set_isa(before)
    for other in codes[1:]:
        np.testing.assert_array_equal(other, codes[0])


@pytest.mark.parametrize("bits", [1, 2, 3, 4])
def test_scalar_codes_are_the_nearest_values(bits: int) -> None:
    x, book = normal(40, 5, 6, bits, "scalar"), tables(bits, kind="scalar")
    nearest = np.abs(x[..., None] - book[0, : 1 << bits].astype(np.float32)).argmin(-1)
    weights = np.random.default_rng(7).uniform(0.1, 1, 40).astype(np.float32)
    values = encode_trellis(x, book, bits, weights=weights, kind="scalar")[1]
    np.testing.assert_array_equal(values, book[0][nearest])


@pytest.mark.parametrize(("kind", "bits", "rows", "loss"), [("additive", 1, 16, 1.2), ("additive", 2, 8, 1.4), ("trellis", 1, 16, 1.6)])
def test_short_cyclic_strings_are_not_far_from_the_best_of_all(kind: str, bits: int, rows: int, loss: float) -> None:
    x, book = normal(rows, 48, 9, bits, kind), tables(bits, kind=kind)
    strings = np.ascontiguousarray(np.arange(1 << 16, dtype=np.uint16).view(np.uint8).reshape(-1, 2).T)
    decoded = reference.decode_trellis(strings, book, bits, rows, kind=kind).astype(np.float32)
    best = sum(np.square(x[:, i : i + 1] - decoded).sum(0).min() for i in range(x.shape[1]))
    found = np.square(x - encode_trellis(x, book, bits, kind=kind)[1]).sum()
    assert best <= found <= loss * best


@settings(max_examples=10)
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


@pytest.mark.parametrize("kind", KINDS)
def test_targets_and_weights_at_the_end_of_the_floats_are_coded(kind: str) -> None:
    signs = np.random.default_rng(11).choice(np.array([-1, 1], np.float32), (64, 3))
    book, heavy = tables(2, kind=kind), np.full(64, 3e38, np.float32)
    far = encode_trellis(signs * np.float32(3e38), book, 2, weights=heavy, kind=kind)[1]
    np.testing.assert_array_equal(far, encode_trellis(signs * np.float32(1e7), book, 2, kind=kind)[1])
    assert np.mean(np.sign(far) == signs) > 0.9
    free = encode_trellis(signs, book, 2, weights=np.zeros(64, np.float32), kind=kind)
    np.testing.assert_array_equal(reference.decode_trellis(free[0], book, 2, 64, kind=kind), free[1])


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
        ({"tables": np.zeros((2, 15), np.int8)}, "shape"),
        ({"x": np.zeros(8, np.float32)}, "shape"),
        ({"kind": "scalar"}, "zero"),
        ({"kind": "lattice"}, "trellis, additive or scalar"),
    ],
)
def test_wrong_input_is_refused(change: dict[str, object], reason: str) -> None:
    arguments: dict[str, object] = {"x": np.zeros((8, 1), np.float32), "tables": tables(2), "bits": 2}
    with pytest.raises(ValueError, match=reason):
        encode_trellis(**{**arguments, **change})  # type: ignore[arg-type]
