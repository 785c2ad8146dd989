from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import leanto_kernels as kernels
from leanto_kernels import reference

pytestmark = pytest.mark.usefixtures("isa")
STORAGES = ("float32", "float16", "int8")


@given(
    st.integers(1, 6), st.integers(0, 200), st.integers(1, 3), st.integers(1, 9), st.integers(1, 80),
    st.sampled_from([0.1, 1.0, 20.0]), st.sampled_from(STORAGES), st.integers(0, 2**32 - 1),
)  # fmt: skip
@settings(max_examples=120)
def test_attention_stays_within_its_bound(
    n: int, past: int, kv: int, group: int, dimension: int, scale: float, storage: str, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    query = (rng.standard_normal((n, kv * group, dimension)) * scale).astype(np.float32)
    key = rng.standard_normal((past + n, kv, dimension)).astype(np.float32)
    value = rng.standard_normal((past + n, kv, dimension)).astype(np.float32)
    error = np.abs(kernels.attention(query, key, value, storage=storage) - reference.attention(query, key, value, storage=storage)).max()
    assert error <= reference.ATTENTION_BOUND * max(1.0, scale) * np.abs(value).max()


@given(
    st.integers(1, 6), st.integers(0, 40), st.integers(1, 40), st.sampled_from([0.05, 1.0]), st.sampled_from([0.0, 0.5, 50.0]),
    st.integers(0, 50), st.integers(0, 2**32 - 1),
)  # fmt: skip
@settings(max_examples=80)
def test_scaled_capped_and_windowed_attention_stays_within_its_bound(
    n: int, past: int, dimension: int, scale: float, softcap: float, window: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    query, key, value = (rng.standard_normal((size, 2, dimension)).astype(np.float32) for size in (n, past + n, past + n))
    more = {"scale": scale, "softcap": softcap, "window": window}
    error = np.abs(kernels.attention(query, key, value, **more) - reference.attention(query, key, value, **more)).max()  # type: ignore[arg-type]
    assert error <= reference.ATTENTION_BOUND * max(1.0, softcap) * np.abs(value).max()


def test_a_query_does_not_see_what_lies_behind_its_window() -> None:
    rng = np.random.default_rng(3)
    query, key, value = (rng.standard_normal((5, 2, 16)).astype(np.float32) for _ in range(3))
    before = kernels.attention(query, key, value, window=2)
    key[:3], value[:3] = 100, -100
    after = kernels.attention(query, key, value, window=2)
    np.testing.assert_array_equal(after[4], before[4])
    assert not np.array_equal(after[3], before[3])


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("dimension", [5, 16, 72])
def test_a_query_gets_the_same_bits_alone_and_among_others(storage: str, dimension: int) -> None:
    rng = np.random.default_rng(3)
    query, key, value = (rng.standard_normal((size, heads, dimension)).astype(np.float32) for size, heads in ((40, 6), (170, 2), (170, 2)))
    together = kernels.attention(query, key, value, window=101, storage=storage)
    for i in range(40):
        seen = 131 + i
        alone = kernels.attention(query[i : i + 1], key[:seen], value[:seen], window=101, storage=storage)
        np.testing.assert_array_equal(alone[0], together[i])


@pytest.mark.parametrize("storage", ["float16", "int8"])
def test_rounded_keys_and_values_cost_little(storage: str) -> None:
    rng = np.random.default_rng(3)
    query, key, value = (rng.standard_normal((size, 4, 64)).astype(np.float32) for size in (8, 300, 300))
    exact = kernels.attention(query, key, value)
    error = np.linalg.norm(kernels.attention(query, key, value, storage=storage) - exact) / np.linalg.norm(exact)
    assert 0 < error < {"float16": 5e-4, "int8": 0.015}[storage]


def test_an_unknown_form_of_keys_is_refused() -> None:
    with pytest.raises(ValueError, match="float32, float16 or int8"):
        kernels.attention(*(np.zeros((1, 1, 8), np.float32) for _ in range(3)), storage="float8")


def test_a_query_does_not_see_the_future() -> None:
    rng = np.random.default_rng(3)
    query, key, value = (rng.standard_normal((5, 2, 16)).astype(np.float32) for _ in range(3))
    before = kernels.attention(query, key, value)
    key[3:], value[3:] = 100, -100
    np.testing.assert_array_equal(kernels.attention(query, key, value)[:3], before[:3])


def test_huge_scores_do_not_overflow() -> None:
    query, key = np.full((1, 1, 8), 1e4, np.float32), np.full((9, 1, 8), 1e4, np.float32)
    value = np.arange(72, dtype=np.float32).reshape(9, 1, 8)
    np.testing.assert_allclose(kernels.attention(query, key, value)[0, 0], value.mean(0)[0], rtol=1e-5)


@pytest.mark.parametrize(
    ("query", "key", "value"),
    [
        ((1, 3, 8), (4, 2, 8), (4, 2, 8)),
        ((1, 2, 8), (4, 2, 8), (3, 2, 8)),
        ((1, 2, 8), (4, 2, 6), (4, 2, 6)),
        ((5, 2, 8), (4, 2, 8), (4, 2, 8)),
        ((2, 8), (4, 2, 8), (4, 2, 8)),
    ],
)
def test_shapes_that_do_not_fit_are_refused(query: tuple[int, ...], key: tuple[int, ...], value: tuple[int, ...]) -> None:
    with pytest.raises(ValueError):
        kernels.attention(*(np.zeros(shape, np.float32) for shape in (query, key, value)))
