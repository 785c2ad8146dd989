from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from leanto_edge.artifact.factors import dense_factors
from leanto_edge.artifact.layout import MatrixSpec
from leanto_edge.compress.factor_rounding import round_left, round_right
from leanto_kernels import reference, tables

# Mean squared error of normal 4-bit factors, relative, by rank: short strings pay for biting their tails.
FOUR_BIT_BOUND = {8: 0.0085, 16: 0.0062, 32: 0.0058}


def spec(bits: int, rank: int = 8) -> MatrixSpec:
    return MatrixSpec("trellis", 2, 300, 200, rank, 0, 0, bits)


@pytest.mark.parametrize("rank", FOUR_BIT_BOUND)
def test_four_bits_stay_within_their_bound_at_any_rank(rank: int) -> None:
    right = np.random.default_rng(0).standard_normal((rank, 200))
    _, found = round_right(right, np.ones(rank), spec(4, rank))
    assert np.mean(np.square(found - right)) < FOUR_BIT_BOUND[rank] * np.mean(np.square(right))


@pytest.mark.parametrize("bits", [4, 8, 16])
def test_what_is_stored_is_what_was_reported(bits: int) -> None:
    random = np.random.default_rng(0)
    right, left = random.standard_normal((8, 200)), random.standard_normal((300, 8)) * np.arange(1, 9)
    tensors, found_right = round_right(right, np.ones(8), spec(bits))
    more, found_left = round_left(left, np.eye(8), spec(bits))
    stored = dense_factors(spec(bits), tensors | more)
    np.testing.assert_allclose(stored[0], found_left, rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(stored[1], found_right, rtol=1e-3, atol=1e-6)
    expected = {name: tensor for name, tensor in spec(bits).tensors("m").items() if "left" in name or "right" in name or "factor" in name}
    assert {f"m.{name}": tensor.shape for name, tensor in (tensors | more).items()} == {name: t.shape for name, t in expected.items()}


def correlated() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    random = np.random.default_rng(2)
    mix = random.standard_normal((8, 3))
    return random.standard_normal((300, 8)), mix @ mix.T + 0.05 * np.eye(8)


def test_int8_under_the_gram_matrix_beats_rounding_each_row_alone() -> None:
    left, gram = correlated()
    alone, together = (round_left(left, metric, spec(8))[1] - left for metric in (np.diag(np.diag(gram)), gram))
    energies = [float(np.einsum("ij,jk,ik->", error, gram, error)) for error in (alone, together)]
    assert energies[1] < 0.9 * energies[0]


def test_a_heavier_row_of_a_right_factor_is_met_better() -> None:
    right, weights = np.random.default_rng(0).standard_normal((8, 200)), np.ones(8)
    weights[3] = 100
    errors = [np.square(round_right(right, chosen, spec(4))[1] - right)[3].sum() for chosen in (np.ones(8), weights)]
    assert errors[1] < 0.5 * errors[0]


def test_int8_factors_never_use_the_value_that_the_format_forbids() -> None:
    right = np.random.default_rng(0).standard_t(2, (8, 200))
    assert round_right(right, np.ones(8), spec(8))[0]["right"].min() >= -127


def test_codes_of_every_start_are_codes_of_the_format() -> None:
    right = np.random.default_rng(0).standard_normal((16, 192))
    tensors, found = round_right(right, np.ones(16), spec(4, 16))
    values = reference.decode_trellis(tensors["right"], tables(4), 4, 16)[:, :192]
    np.testing.assert_allclose(values * tensors["right_scales"].astype(np.float32)[:, None], found, rtol=1e-3)
