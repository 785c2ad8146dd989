from __future__ import annotations

import math
from zlib import crc32

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from leanto.router.features import BUCKETS, STRUCTURE, features, split_options

QUESTION = "Which of the following is NOT 12 = x?\nA. True, False\nB. False, True\nC. all of the above\nAnswer:"
texts = st.text() | st.text(alphabet="aB1.)\n ?=é\ud800İ", max_size=80)


def named(text: str) -> dict[str, float]:
    return dict(zip(STRUCTURE, features(text)[0], strict=True))


@given(texts)
def test_any_text_has_a_finite_number_for_each_name_and_distinct_buckets(text: str) -> None:
    form, buckets = features(text)
    assert len(form) == len(STRUCTURE)
    assert all(map(math.isfinite, form))
    assert buckets.dtype == np.int64
    assert sorted(set(buckets.tolist())) == buckets.tolist()
    assert not len(buckets) or 0 <= buckets[0] <= buckets[-1] < BUCKETS


def test_a_question_with_options_is_seen_as_one() -> None:
    found = named(QUESTION)
    assert found["options"] == math.log1p(3)
    assert (found["asks_which"], found["negation_in_capitals"], found["of_the_following"], found["equation"]) == (1, 1, 1, 1)
    assert (found["option_all"], found["option_truth"], found["option_permuted"], found["ends_asking"]) == (1, 1, 1, 1)


def test_without_a_list_there_are_no_options() -> None:
    assert all(value == 0 for name, value in named("A. is a letter, and 1) a number").items() if name.startswith("option"))


def test_question_options_and_rest_are_split_at_the_lines() -> None:
    assert split_options("why?\na. x y\nb)  z\nanswer:") == ("why?\n", ["x y", "z"], "\nanswer:")


def test_the_buckets_are_the_same_in_every_process() -> None:
    assert features("Hello")[1].tolist() == [crc32(b"hello") % BUCKETS]
    assert features("wake me")[1].tolist() == [37570, 49557, 58178]


def test_the_order_of_words_and_every_part_of_the_prompt_count() -> None:
    assert features("dog bites man")[1].tolist() != features("man bites dog")[1].tolist()
    for word in ("which", "true", "above", "answer"):
        assert crc32(word.encode()) % BUCKETS in features(QUESTION)[1]


@pytest.mark.parametrize(
    ("text", "name"), [("What is it", "asks_what"), ("I owe $5", "money"), ("It is ___", "blank"), ("In 1914", "year")]
)
def test_what_a_prompt_says_sets_its_feature(text: str, name: str) -> None:
    assert named(text)[name] == 1
    assert named("Say hello")[name] == 0
