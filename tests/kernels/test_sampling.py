from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import leanto_kernels as kernels
from leanto_kernels import reference

pytestmark = pytest.mark.usefixtures("isa")

LOGITS = np.random.default_rng(0).standard_normal(50).astype(np.float32)


@given(
    st.integers(2, 1500),
    st.integers(0, 2**32 - 1),
    st.sampled_from([0.0, 0.3, 1.0, 2.5]),
    st.sampled_from([0.01, 0.5, 0.9, 1.0]),
    st.sampled_from([0, 1, 3, 40, 5000]),
    st.booleans(),
    st.sampled_from([0, 1, 5, 300]),
)
@settings(max_examples=150)
def test_tokens_and_evidence_equal_the_oracle(
    vocab: int, seed: int, temperature: float, top_p: float, top_k: int, constrained: bool, top: int
) -> None:
    rng = np.random.default_rng(seed)
    logits = (rng.standard_normal(vocab) * 4).astype(np.float32)
    allowed = np.flatnonzero(rng.random(vocab) < 0.5).astype(np.int32) if constrained else None
    if allowed is not None and not len(allowed):
        allowed = np.array([vocab - 1], np.int32)
    args = (temperature, top_p, top_k, float(rng.random()), allowed, min(vocab, top))
    ours, oracle = kernels.sample(logits, *args), reference.sample(logits, *args)
    assert ours[0] == oracle[0]
    np.testing.assert_allclose(ours[1:4], oracle[1:4], atol=reference.EVIDENCE_BOUND, rtol=2e-6)
    assert [token for token, _ in ours[4]] == [token for token, _ in oracle[4]]
    np.testing.assert_allclose([p for _, p in ours[4]], [p for _, p in oracle[4]], atol=reference.EVIDENCE_BOUND, rtol=2e-6)


def test_greedy_takes_the_lowest_id_among_equals() -> None:
    assert kernels.sample(np.array([1, 3, 3, 2], np.float32))[0] == 1


def test_drawing_orders_equals_by_id() -> None:
    even = np.zeros(4, np.float32)
    assert [kernels.sample(even, 1.0, u=u)[0] for u in (0.0, 0.26, 0.51, 0.99)] == [0, 1, 2, 3]


def test_the_top_takes_the_lowest_id_among_equals() -> None:
    assert [token for token, _ in kernels.sample(np.array([0, 1] * 400, np.float32), top=3)[4]] == [1, 3, 5]


def test_draws_follow_the_distribution() -> None:
    logits = np.log(np.array([0.1, 0.6, 0.3], np.float32))
    draws = [kernels.sample(logits, 1.0, u=(i + 0.5) / 1000)[0] for i in range(1000)]
    assert np.bincount(draws).tolist() == pytest.approx([100, 600, 300], abs=1)


def test_a_constrained_choice_has_a_negative_margin() -> None:
    token, logprob, margin, *_ = kernels.sample(np.array([5, 1, 0], np.float32), allowed=np.array([1, 2], np.int32))
    assert token == 1
    assert margin == pytest.approx(-4)
    assert logprob == pytest.approx(reference.sample(np.array([1, 5, 0], np.float32), allowed=np.array([0], np.int32))[1], abs=1e-5)


def test_equal_logits_have_the_entropy_of_the_vocabulary() -> None:
    assert kernels.sample(np.zeros(1000, np.float32))[3] == pytest.approx(np.log(1000), abs=reference.EVIDENCE_BOUND)


def test_extreme_logits_give_finite_evidence() -> None:
    for logits in ([3e38, -3e38, 0], [-3e38, -3e38, -3e38], [3e38, 3e38, 0]):
        assert np.isfinite(kernels.sample(np.array(logits, np.float32), 1.0, u=0.5)[:4]).all()


def test_a_tiny_temperature_is_greedy() -> None:
    assert kernels.sample(LOGITS, 1e-300, u=0.999999)[0] == int(LOGITS.argmax())


@pytest.mark.parametrize(
    "arguments",
    [
        {"temperature": -0.1},
        {"temperature": float("nan")},
        {"temperature": float("inf")},
        {"top_p": 0.0},
        {"top_p": 1.1},
        {"top_k": -1},
        {"u": 1.0},
        {"top": 51},
        {"u": -0.1},
        {"allowed": np.array([], np.int32)},
        {"allowed": np.array([50], np.int32)},
        {"allowed": np.array([-1, 3], np.int32)},
        {"allowed": np.array([3, 3], np.int32)},
        {"allowed": np.array([4, 3], np.int32)},
    ],
)
def test_arguments_out_of_range_are_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        kernels.sample(LOGITS, **arguments)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_logits_that_are_not_finite_are_refused(bad: float) -> None:
    logits = LOGITS.copy()
    logits[7] = bad
    with pytest.raises(ValueError, match="not finite"):
        kernels.sample(logits)


@pytest.mark.parametrize("size", [0, 1])
def test_fewer_than_two_logits_are_refused(size: int) -> None:
    with pytest.raises(ValueError):
        kernels.sample(np.zeros(size, np.float32))
