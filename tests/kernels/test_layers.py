from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import leanto_kernels as kernels
from leanto_kernels import reference

pytestmark = pytest.mark.usefixtures("isa")

SEEDS = st.integers(0, 2**32 - 1)
SIZES = st.integers(1, 70)


def close(ours: np.ndarray, oracle: np.ndarray, bound: float) -> bool:
    return bool(np.abs(ours - oracle).max() <= bound * max(np.abs(oracle).max(), 1e-30))


@given(SIZES, SEEDS, st.sampled_from([1e-3, 1.0, 1e3]))
@settings(max_examples=60)
def test_rms_norm_stays_within_its_bound(size: int, seed: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    x = (rng.standard_normal((2, size)) * scale).astype(np.float32)
    weight = rng.standard_normal(size).astype(np.float32)
    assert close(kernels.rms_norm(x, weight, 1e-5), reference.rms_norm(x, weight, 1e-5), reference.RMS_NORM_BOUND)


@given(st.integers(1, 3), st.integers(1, 3), SIZES, st.integers(0, 5000), SEEDS)
@settings(max_examples=60)
def test_rope_stays_within_its_bound(tokens: int, heads: int, half: int, position: int, seed: int) -> None:
    x = np.random.default_rng(seed).standard_normal((tokens, heads, 2 * half)).astype(np.float32)
    bound = reference.ROPE_BOUND + (position + tokens) * 2**-24
    assert close(kernels.rope(x, position, 10000.0), reference.rope(x, position, 10000.0), bound)


def test_position_zero_turns_nothing() -> None:
    x = np.random.default_rng(0).standard_normal((1, 2, 8)).astype(np.float32)
    np.testing.assert_array_equal(kernels.rope(x, 0, 10000.0), x)


@pytest.mark.parametrize("activation", ["silu", "gelu"])
@given(size=SIZES, seed=SEEDS, scale=st.sampled_from([0.1, 1.0, 30.0, 1e4]))
@settings(max_examples=60)
def test_gated_mlp_stays_within_its_bound(activation: str, size: int, seed: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    gate, up = ((rng.standard_normal(size) * scale).astype(np.float32) for _ in range(2))
    with np.errstate(over="ignore"):
        oracle = reference.gated_mlp(gate, up, activation)
    assert (np.abs(kernels.gated_mlp(gate, up, activation) - oracle) <= reference.GATED_MLP_BOUND * np.abs(gate * up)).all()


@pytest.mark.parametrize("activation", ["silu", "gelu"])
def test_not_a_number_passes_through_the_gate(activation: str) -> None:
    assert np.isnan(kernels.gated_mlp(np.full(9, np.nan, np.float32), np.ones(9, np.float32), activation)).all()


@given(SIZES, SEEDS, st.sampled_from([1e-3, 1.0, 30.0, 1e6]), st.sampled_from([0.5, 30.0]))
@settings(max_examples=60)
def test_a_softcap_stays_within_its_bound(size: int, seed: int, scale: float, cap: float) -> None:
    x = (np.random.default_rng(seed).standard_normal(size) * scale).astype(np.float32)
    assert np.abs(kernels.softcap(x, cap) - reference.softcap(x, cap)).max() <= reference.SOFTCAP_BOUND * cap


def test_not_a_number_passes_through_the_softcap_and_infinity_does_not() -> None:
    x = np.array([np.nan, np.inf, -np.inf], np.float32)
    np.testing.assert_array_equal(kernels.softcap(x, 30.0), np.array([np.nan, 30, -30], np.float32))


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError):
        kernels.rms_norm(np.zeros((2, 3), np.float32), np.zeros(4, np.float32), 1e-5)
    with pytest.raises(ValueError):
        kernels.rope(np.zeros((1, 1, 3), np.float32), 0, 10000.0)
    with pytest.raises(ValueError):
        kernels.gated_mlp(np.zeros(3, np.float32), np.zeros(4, np.float32))
    with pytest.raises(ValueError, match="silu or gelu"):
        kernels.gated_mlp(np.zeros(3, np.float32), np.zeros(3, np.float32), "relu")
    with pytest.raises(ValueError, match="positive"):
        kernels.softcap(np.zeros(3, np.float32), 0.0)
