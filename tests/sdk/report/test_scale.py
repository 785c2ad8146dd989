from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leanto.report.scale import Scale, spanning

positive = st.floats(1e-6, 1e9)


@settings(max_examples=200)
@given(st.lists(positive, min_size=1, max_size=20), st.booleans())
def test_an_axis_holds_its_values_and_has_a_few_ticks(values: list[float], log: bool) -> None:
    scale = spanning("x", values, log=log)
    assert scale.low <= min(values) * 1.000001
    assert max(values) <= scale.high * 1.000001
    ticks = scale.ticks()
    assert 2 <= len(ticks) <= 9
    assert all(-1e-9 <= scale.at(value) <= 1 + 1e-9 for value, _ in ticks)


def test_percent_is_written_as_percent() -> None:
    assert Scale("share", 0.7, 1.0, percent=True).ticks() == [(0.7, "70 %"), (0.8, "80 %"), (0.9, "90 %"), (1.0, "100 %")]


def test_a_logarithmic_axis_has_equal_ratios() -> None:
    scale = Scale("ms", 1.0, 100.0, log=True)
    assert scale.at(10.0) == pytest.approx(0.5)


@pytest.mark.parametrize("value", [55.0, 1999999.0, 1e-6, 1e18])
def test_a_logarithmic_axis_of_one_value_has_room_around_it(value: float) -> None:
    scale = spanning("ms", [value], log=True)
    assert scale.high >= 9.9 * scale.low
    assert 0.1 < scale.at(value) < 0.9


def test_an_axis_of_nothing_or_of_zeros_is_still_one() -> None:
    for scale in (spanning("x", []), spanning("x", [0.0]), spanning("x", [0.0], log=True)):
        assert scale.ticks()
        assert 0 <= scale.at(0.5) <= 1
