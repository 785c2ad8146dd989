"""Labelled examples: every line is read or named, whatever it holds."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leanto.errors import ModelError
from leanto.jsonl import read_rows


def number_of(row: dict[str, object]) -> int:
    number = row["n"]
    if not isinstance(number, int):
        raise TypeError
    return number


def test_blank_lines_are_passed_over_and_a_line_separator_inside_a_string_ends_no_line(tmp_path: Path) -> None:
    (tmp_path / "x").write_text('{"n": 1, "text": "a\u2028b"}\n\n  \n{"n": 2}', encoding="utf-8")
    assert read_rows(tmp_path / "x", number_of, form="numbers", error=ModelError) == [1, 2]


@given(bad=st.sampled_from(["{", "[]", "1", '"n"', "[" * 100_000, "{}", '{"n": "1"}', "NaN", "\x00"]), before=st.integers(0, 5))
def test_the_first_line_of_another_form_is_named_by_its_number(tmp_path_factory: pytest.TempPathFactory, bad: str, before: int) -> None:
    path = tmp_path_factory.mktemp("rows") / "x"
    path.write_text('{"n": 1}\n' * before + bad, encoding="utf-8")
    with pytest.raises(ModelError, match=f"x:{before + 1}: expected numbers"):
        read_rows(path, number_of, form="numbers", error=ModelError)


@pytest.mark.parametrize("content", [None, b"\xff\xfe"])
def test_a_file_that_is_missing_or_no_text_is_named(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "x").write_bytes(content)
    with pytest.raises(ModelError, match="x: cannot be read; give a file with numbers"):
        read_rows(tmp_path / "x", number_of, form="numbers", error=ModelError)
