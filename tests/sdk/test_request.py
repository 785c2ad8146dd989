from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leanto import PromptRefused
from leanto.request import MAX_PROMPT_CHARS, Ask, parse_call


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ("", "is empty"),
        (" \n\t", "is empty"),
        ("a" * 100_000, "has 100000 characters: shorten it to 32768"),
        ("caf\udce9", "not valid UTF-8 at character 4"),
    ],
)
def test_a_prompt_that_no_model_can_read_is_refused(prompt: str, words: str) -> None:
    with pytest.raises(PromptRefused, match=words):
        Ask(prompt, "text", "personal")


def test_the_longest_prompt_is_taken() -> None:
    assert Ask("a" * MAX_PROMPT_CHARS, "text", "personal").prompt


@pytest.mark.parametrize(
    "options",
    [
        {"task": "dance"},
        {"max_tokens": 0},
        {"temperature": -1},
        {"temperature": float("nan")},
        {"top_p": 0},
        {"top_k": -1},
        {"stop": ("",)},
    ],
)
def test_sampling_out_of_range_is_refused_by_name(options: dict[str, Any]) -> None:
    arguments: dict[str, Any] = {"prompt": "x", "task": "text", "privacy": "personal", **options}
    with pytest.raises(PromptRefused, match=next(iter(options))):
        Ask(**arguments)


@given(st.text())
def test_any_text_is_a_call_or_none(text: str) -> None:
    assert parse_call(text) is None or "intent" in (parse_call(text) or {})


@pytest.mark.parametrize("text", ["", "[]", '"x"', "{}", '{"intent": 3}', "[" * 100_000, '{"intent": "x"'])
def test_what_is_not_one_call_is_none(text: str) -> None:
    assert parse_call(text) is None


def test_a_call_is_an_intent_with_its_slots() -> None:
    assert parse_call('{"intent": "none"}') == {"intent": "none"}


@given(st.text(st.characters(), max_size=40))
def test_any_prompt_is_taken_or_refused(text: str) -> None:
    with contextlib.suppress(PromptRefused):
        Ask(text, "text", "personal")
