from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leanto.policy.condition import MAX_CHARS, VARIABLES, compiled, context, evaluate, tokens, variables

Values = Mapping[str, bool | float | None]
EXAMPLES = {name: value for name, (value, _) in VARIABLES.items()}


def value(condition: str, **known: bool | float | str | None) -> bool | None:
    return evaluate(compiled(condition), context({**EXAMPLES, **known}))


@pytest.mark.parametrize(
    "condition",
    ["metered == true", "metered == false", "metered != true", "metered in [true]", "!metered", "metered", "[metered] == [true]",
     "metered ? true : true", "metered == metered", "{'a': metered}.size() == 1", "plugged == metered", "!(metered == true)"],
)  # fmt: skip
def test_whatever_hangs_on_an_unknown_signal_has_no_value(condition: str) -> None:
    assert value(condition, metered=True) is not None
    assert value(condition, metered=None) is None


@pytest.mark.parametrize(
    ("condition", "expected"),
    [("plugged || metered == true", True), ("metered || plugged", True), ("!plugged && metered", False), ("metered && !plugged", False),
     ("plugged ? task == 'text' : metered", True), ("metered || metered == false", None), ("(metered && false) || task == 'call'", False)],
)  # fmt: skip
def test_what_does_not_hang_on_an_unknown_signal_has_its_value(condition: str, expected: bool | None) -> None:
    assert value(condition, plugged=True, metered=None) is expected


@pytest.mark.parametrize(
    ("condition", "known", "unknown"),
    [("plugged == null", False, True), ("plugged != null", True, False), ("null == plugged", False, True), ("null != plugged", True, False),
     ("!(plugged == null)", True, False), ("plugged == null || plugged", True, True), ("plugged != null && plugged == false", False, False),
     ("plugged==null?task=='call':plugged", True, False), ("task == 'plugged == null'", False, False),
     ("task != '(plugged == null)'", True, True), ("plugged // == null", True, None)],
)  # fmt: skip
def test_a_condition_may_ask_whether_a_signal_is_known(condition: str, known: bool, unknown: bool | None) -> None:
    assert value(condition, plugged=True) is known
    assert value(condition, plugged=None) is unknown


def test_a_test_for_null_does_not_make_the_rest_of_the_condition_see_null() -> None:
    assert value("(plugged == null && task == 'call') || plugged == false", plugged=None) is None


@dataclass(frozen=True)
class Formula:
    """A condition as text, its value by Kleene's logic, and the signals in it."""

    text: str
    value: Callable[[Values], bool | None]
    names: tuple[str, ...]


def atom(name: str, text: str, compare: Callable[[bool | float], bool]) -> Formula:
    def found(values: Values) -> bool | None:
        seen = values[name]
        return None if seen is None else compare(seen)

    return Formula(text, found, (name,))


ATOMS = [
    atom("plugged", "plugged", lambda seen: seen is True),
    atom("plugged", "plugged == false", lambda seen: seen is False),
    atom("metered", "metered in [true]", lambda seen: seen is True),
    atom("throttled", "throttled != true", lambda seen: seen is False),
    atom("battery_percent", "battery_percent < 20", lambda seen: seen < 20),
    atom("temperature_c", "30.0 <= temperature_c", lambda seen: seen >= 30),
    atom("cpu_load", "!(cpu_load > 1.0)", lambda seen: seen <= 1),
]
KNOWN = [
    Formula("plugged == null", lambda values: values["plugged"] is None, ()),
    Formula("cpu_load != null", lambda values: values["cpu_load"] is not None, ()),
    Formula("task == 'text'", lambda _: True, ()),
]
DOMAINS: dict[str, tuple[bool | float, ...]] = {
    **dict.fromkeys(("plugged", "metered", "throttled"), (True, False)),
    "battery_percent": (10.0, 90.0),
    "temperature_c": (10.0, 50.0),
    "cpu_load": (0.5, 2.0),
}


def negated(inner: Formula) -> Formula:
    return Formula(f"!({inner.text})", lambda values: None if (found := inner.value(values)) is None else not found, inner.names)


def joined(left: Formula, right: Formula, sign: str) -> Formula:
    decisive = sign == "||"

    def found(values: Values) -> bool | None:
        both = (left.value(values), right.value(values))
        return decisive if decisive in both else None if None in both else not decisive

    return Formula(f"({left.text}) {sign} ({right.text})", found, left.names + right.names)


FORMULAS = st.recursive(
    st.sampled_from([*ATOMS, *KNOWN]),
    lambda inner: st.builds(negated, inner) | st.builds(joined, inner, inner, st.sampled_from(["&&", "||"])),
    max_leaves=6,
).filter(lambda formula: len(formula.text) <= MAX_CHARS)
DEVICES = st.fixed_dictionaries({name: st.none() | st.sampled_from(domain) for name, domain in DOMAINS.items()})


@given(FORMULAS, DEVICES)
def test_a_condition_has_the_value_of_three_valued_logic(formula: Formula, device: dict[str, bool | float | None]) -> None:
    assert value(formula.text, **device) is formula.value(device)


@given(FORMULAS, DEVICES)
def test_a_condition_over_unknown_signals_has_a_value_only_if_every_assignment_gives_it(
    formula: Formula, device: dict[str, bool | float | None]
) -> None:
    plain = formula.text.replace("plugged == null", "false").replace("cpu_load != null", "true")  # they ask of knowledge, not of the device
    blind = value(plain, **device)
    missing = [name for name in DOMAINS if device[name] is None]
    program = compiled(plain)
    every = {
        evaluate(program, context({**EXAMPLES, **device, **dict(zip(missing, values, strict=True))}))
        for values in product(*(DOMAINS[name] for name in missing))
    }
    if blind is not None:
        assert every == {blind}
    elif len(set(formula.names)) == len(formula.names):  # CEL does not see that `plugged || !plugged` is always true
        assert every == {True, False}


@pytest.mark.parametrize(
    ("condition", "found"),
    [("plugged", ["plugged"]), (" plugged // 'it'", ["plugged"]), ("task=='a // b'", ["task", "==", "'a // b'"]),
     ('task == "it\'s \\" so"', ["task", "==", '"it\'s \\" so"']),
     ("cpu_load>=.5e-3&&1u<0x1F", ["cpu_load", ">=", ".5e-3", "&&", "1u", "<", "0x1F"])],
)  # fmt: skip
def test_blanks_and_comments_are_no_part_of_a_condition(condition: str, found: list[str]) -> None:
    assert tokens(condition) == found


@pytest.mark.parametrize("text", ["r'a'", "b'a'", "'''a'''", '"""a"""', "rb'a'", "R'a\\'"])
def test_a_text_with_a_prefix_or_three_quotes_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"with a prefix or three quotes|is not CEL"):
        compiled(f"task == {text}")


def test_the_variables_of_a_condition_are_those_outside_its_texts() -> None:
    assert variables("task == 'plugged' && (metered == null || cpu_load > 1.0)") == {"task", "metered", "cpu_load"}


PIECES = st.sampled_from(
    [*VARIABLES, "null", "true", "0", "-1", "9223372036854775807", "1.5", "1e300", "1u", "'a'", "''", "[", "]", "(", ")", "{", "}", ":",
     "?", "&&", "||", "==", "!=", "<", ">=", "+", "-", "*", "/", "%", "!", " in ", ".contains(", ".size()", "size(", ".startsWith(", ",",
     ".all(", "//", "\n", "'", '"', "\\", "\x00", "é"]
)  # fmt: skip


@given(st.lists(PIECES, max_size=40).map("".join) | st.text(max_size=60))
def test_any_text_is_a_condition_or_a_value_error(text: str) -> None:
    try:
        program = compiled(text)
    except ValueError:
        return
    for values in (EXAMPLES, dict.fromkeys(EXAMPLES), {**EXAMPLES, "prompt_tokens": 0, "task": ""}):
        assert evaluate(program, context(values)) in (True, False, None)


@pytest.mark.parametrize(
    "condition",
    ["!" * 494 + "true", "-" * 490 + "1 < 2", "1" + "+1" * 240 + " > 0", "true" + "||true" * 80, "(" * 90 + "true" + ")" * 90,
     "(task" + "+task" * 90 + ").contains(privacy)", "[" + "1," * 230 + "1].size() > 0", "true || task" + "[0]" * 150 + " == 1",
     "(" + "privacy+" * 50 + "privacy).size() > 1", "task == '" + "x" * 480 + "'"],
)  # fmt: skip
def test_the_longest_conditions_end(condition: str) -> None:
    assert evaluate(compiled(condition), context({**EXAMPLES, "privacy": "p" * 100})) in (True, False, None)
