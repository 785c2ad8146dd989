from __future__ import annotations

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from leanto.local.json_prefix import JsonPrefix

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)
objects = st.dictionaries(st.text(max_size=6), values, max_size=4)
texts = st.text(alphabet='{}[]:,"\\/ \n\te0123456789-+.u truefalsnNaInity', max_size=14)


@given(objects, st.sampled_from([None, 1]), st.booleans())
def test_no_beginning_of_an_object_is_refused(value: dict[str, object], indent: int | None, ascii_only: bool) -> None:
    prefix = JsonPrefix()
    assert all(prefix.feed(char) for char in json.dumps(value, indent=indent, ensure_ascii=ascii_only) + " \n")


@given(objects, texts, st.integers(0, 60), texts)
@example({}, '{"a": 01', 0, "}")
@example({}, '{"a": 1.e', 0, "5}")
@example({}, '{"a",', 0, "}")
@example({}, '{,"', 0, '":1}')
def test_what_is_refused_is_no_object_whatever_follows(value: dict[str, object], middle: str, cut: int, end: str) -> None:
    text = json.dumps(value)[:cut] + middle
    if JsonPrefix().feed(text):
        return
    with pytest.raises(ValueError):
        assert isinstance(json.loads(text + end), dict) or json.loads("not an object")


@pytest.mark.parametrize(
    "text", ["[", "a", '{"a" 1', '{"a": tru0', '{"a": 1}}', '{"a": "\\x', '{"a": [1,]', "{'", '{"a": "\n', '{"a": 1 2']
)
def test_a_text_that_cannot_become_an_object_is_refused_at_once(text: str) -> None:
    prefix = JsonPrefix()
    assert prefix.feed(text[:-1])
    assert not prefix.feed(text[-1])
    assert not prefix.feed("}")
