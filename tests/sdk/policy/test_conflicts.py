from __future__ import annotations

import pytest

from leanto.policy import parse_policy
from leanto.policy.conflicts import Conflict, conflicts


def found(*rules: tuple[str, str]) -> list[Conflict]:
    texts = [f'[[rules]]\nname = "{i}"\nif = "{condition}"\n{what}\n' for i, (condition, what) in enumerate(rules)]
    return conflicts(parse_policy("version = 1\n" + "".join(texts)))


LOCAL, CLOUD = "allow = ['local']", "allow = ['cloud']"


@pytest.mark.parametrize(
    ("one", "other", "example"),
    [
        ("plugged", "(plugged)", {"plugged": True}),
        ("prompt_tokens > 300", "prompt_tokens <= 301", {"prompt_tokens": 301}),
        ("privacy == 'personal'", "task == 'call'", {"privacy": "personal", "task": "call"}),
        ("temperature_c > 50.7 && temperature_c < 50.8", "temperature_c > 50.5", {"temperature_c": 50.75}),
        ("battery_percent < 20", "battery_percent >= 20", {"battery_percent": None}),
        ("temperature_c < -5.0", "temperature_c < -6.0", {"temperature_c": -7.0}),
    ],
)
def test_two_rules_that_may_leave_nothing_are_found_with_an_example(one: str, other: str, example: dict[str, object]) -> None:
    assert found((one, LOCAL), (other, CLOUD)) == [Conflict(0, 1, example)]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("prompt_tokens > 300", "prompt_tokens <= 300"),
        ("privacy == 'personal'", "privacy == 'public'"),
        ("privacy == 'nowhere'", "true"),
        ("battery_percent > 100 && battery_percent != null", "true"),
        ("plugged != null && plugged", "plugged != null && !plugged"),
        ("memory_pressure > 1.0 && memory_pressure != null", "true"),
    ],
)
def test_rules_that_cannot_both_apply_are_not_blamed(one: str, other: str) -> None:
    assert found((one, LOCAL), (other, CLOUD)) == []


def test_rules_that_leave_something_are_not_blamed() -> None:
    assert found(("plugged", LOCAL), ("plugged", LOCAL), ("plugged", "prefer = 'cloud'"), ("plugged", "allow = ['local', 'cloud']")) == []


def test_many_variables_are_tried_by_chance_and_always_the_same() -> None:
    names = ("battery_percent", "cpu_load", "temperature_c", "memory_pressure", "rtt_ms", "prompt_tokens")
    rules = [(" && ".join(f"{name} >= {i}.0" for i, name in enumerate(names)), what) for what in (LOCAL, CLOUD + "\nunknown = 'skip'")]
    rules[1] = (f"({rules[1][0]})", rules[1][1])
    assert found(*rules) == found(*rules)
