"""Sampling parameters outside their range are refused where they are written."""

from __future__ import annotations

from typing import Any

import pytest

from leanto_edge import SamplingParams


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_tokens": 0},
        {"temperature": -0.1},
        {"temperature": float("nan")},
        {"top_p": 0.0},
        {"top_p": 1.5},
        {"top_k": -1},
        {"top_k": 1 << 31},
        {"seed": -1},
        {"seed": 1 << 64},
        {"stop": ("",)},
    ],
)
def test_a_sampling_parameter_out_of_range_says_so(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        SamplingParams(**wrong)
