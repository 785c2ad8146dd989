"""From a prompt to numbers: how it is built (length, symbols, kind of question, its answer options) and which words are in it.

Pure, of the text alone. Form transfers to subjects that were never seen, words tell the known ones apart. The word lists are
English; in other languages what remains is length, symbols, options and the hashed words. Knows nothing of models or weights.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from itertools import chain
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

BUCKETS = 1 << 16  # of hashed words and pairs of words
_PAIR = np.uint32(2654435761)  # an odd multiplier (Knuth, TAOCP 6.4), so that a pair is not the pair turned round

_TOKEN = re.compile(r"[^\W\d_]+|\d+|_+|[^\w\s]")
_OPTION = re.compile(r"^[ \t]*[a-j1-9][.)][ \t]+(\S.*)$", re.MULTILINE)
_CAPITAL = re.compile(r"\b[A-Z]")
_SHOUTED = re.compile(r"\b(?:NOT|EXCEPT|LEAST)\b")
_DIGIT = re.compile(r"\d")
_MATH = frozenset("+*/=^<>()[]{}|\\√∑∫≤≥±×÷π∞")
_COMMON = (
    "the of a an to in and is are for by with that as on it at be was were from or which this if not he his her she they them "
    "has have had will would can could should do does did what when where who how why i you we my your no all most one"
)
_STOP = frozenset(_COMMON.split())
_FIRST = frozenset(("i", "my", "me", "we", "our"))
_THIRD = frozenset(("he", "she", "his", "her", "him"))
_NEGATIONS = frozenset(("not", "except", "least", "false", "incorrect", "never"))
_TRUTH = frozenset(("true", "false", "wrong", "yes"))
_ABSOLUTE = frozenset(("only", "always", "never", "all"))
_ASKS = {
    "asks_what": {"what"},
    "asks_which": {"which"},
    "asks_how": {"how"},
    "asks_why": {"why", "because"},
    "asks_who": {"who", "whom"},
    "asks_when": {"when", "where"},
    "supposes": {"if", "suppose", "assume", "given"},
    "computes": {"find", "calculate", "compute", "determine", "solve", "many", "much"},
    "ranks": {"best", "likely", "most", "primary", "main"},
    "advises": {"should", "would", "could"},
    "names": {"called", "known", "term", "refers"},
    "cites": {"according", "passage", "author", "information"},
    "states": {"statement", "statements", "ii"},
}
_ASKED = tuple(map(frozenset, _ASKS.values()))

STRUCTURE = (
    *("log_chars", "log_words", "word_length", "long_words", "stop_words", "capitals", "numbers", "math", "equation", "money"),
    *("quotes", "ends_asking", "blank", "ends_colon", "unfinished", "negation", "negation_in_capitals", "of_the_following"),
    *("first_person", "third_person", "lines", "sentences", "sentence_length", "year"),
    *_ASKS,
    *("options", "option_length", "option_spread", "option_longest", "option_shortest", "option_numbers", "option_digits"),
    *("option_math", "option_single_words", "option_similarity", "option_closest", "option_starts"),
    *("option_overlap", "option_all", "option_none", "option_truth", "option_both", "option_absolute", "option_permuted"),
    *("option_lists", "option_word_length"),
)


def features(text: str) -> tuple[list[float], NDArray[np.int64]]:
    """How the prompt is built, a finite number for each name in STRUCTURE; and the distinct buckets (k,) of its words, case ignored."""
    low = text.lower().encode(errors="replace").decode()  # half a surrogate pair is no word
    stem, options, rest = split_options(low)
    stem_tokens, option_tokens = _TOKEN.findall(stem), [_TOKEN.findall(option) for option in options]
    form = _stem(text[: len(stem)].strip(), stem_tokens)
    form += _options(options, option_tokens, stem_tokens) if options else _NO_OPTIONS
    return form, _buckets([*stem_tokens, *chain.from_iterable(option_tokens), *_TOKEN.findall(rest)])


def split_options(text: str) -> tuple[str, list[str], str]:
    """Question, listed answers, and what follows, of a text in small letters that lists answers on lines `a. …` or `1) …`."""
    found = list(_OPTION.finditer(text))
    if len(found) < 2:
        return text, [], ""
    return text[: found[0].start()], [match[1].strip() for match in found], text[found[-1].end() :]


def _buckets(words: Sequence[str]) -> NDArray[np.int64]:
    """Of words and of pairs of neighbours, sorted, each once."""
    single = np.fromiter(map(crc32, map(str.encode, words)), np.uint32, len(words))
    pairs = single[:-1] * _PAIR + single[1:]
    pairs ^= pairs >> np.uint32(15)  # the low bits of a product know only the low bits of its factors
    found = np.concatenate((single, pairs)) % np.uint32(BUCKETS)
    found.sort()
    return found[np.flatnonzero(np.diff(found, prepend=np.uint32(BUCKETS)))].astype(np.int64)


def _stem(stem: str, tokens: Sequence[str]) -> list[float]:
    words = [token for token in tokens if token.isalpha()]
    said = set(tokens)
    n, all_tokens = max(1, len(words)), max(1, len(tokens))
    sentences = tokens.count(".") + tokens.count("!") + tokens.count("?")
    numbers = [token for token in tokens if token.isdigit()]
    return [
        math.log1p(len(stem)),
        math.log1p(len(words)),
        sum(map(len, words)) / n,
        sum([len(word) > 8 for word in words]) / n,
        sum(map(_STOP.__contains__, words)) / n,
        len(_CAPITAL.findall(stem)) / n,
        len(numbers) / all_tokens,
        sum(map(_MATH.__contains__, tokens)) / all_tokens,
        float("=" in said or "^" in said),
        float("$" in said or "%" in said),
        float('"' in said or "“" in said or "''" in stem),
        float(stem.endswith("?")),
        float("__" in stem),
        float(stem.endswith(":")),
        float(bool(stem) and stem[-1] not in "?.:!_"),
        float(not said.isdisjoint(_NEGATIONS)),
        float(_SHOUTED.search(stem) is not None),
        float("of the following" in stem),
        sum(map(_FIRST.__contains__, words)) / n,
        sum(map(_THIRD.__contains__, words)) / n,
        math.log1p(stem.count("\n")),
        math.log1p(sentences),
        math.log1p(n / (1 + sentences)),
        float(any(len(number) == 4 and number[0] in "12" for number in numbers)),
        *[float(not said.isdisjoint(asked)) for asked in _ASKED],
    ]


def _options(options: Sequence[str], tokens: Sequence[Sequence[str]], asked: Sequence[str]) -> list[float]:
    words = [frozenset(filter(str.isalnum, listed)) for listed in tokens]
    lengths = list(map(len, options))
    n = len(options)
    mean = sum(lengths) / n
    alike = [len(a & b) / (len(a | b) or 1) for i, a in enumerate(words) for b in words[max(0, i - 9) : i]]
    said, topic = frozenset().union(*words), set(asked) - _STOP
    return [
        math.log1p(n),
        math.log1p(mean),
        math.log1p(math.sqrt(sum([(length - mean) ** 2 for length in lengths]) / n)),
        max(lengths) / (mean + 1),
        min(lengths) / (mean + 1),
        sum([2 * sum(map(str.isdigit, listed)) >= len(listed) for listed in tokens]) / n,
        sum([_DIGIT.search(option) is not None for option in options]) / n,
        sum([not _MATH.isdisjoint(listed) for listed in tokens]) / n,
        sum([len(listed) == 1 for listed in tokens]) / n,
        sum(alike) / len(alike),
        max(alike),
        len({listed[0] for listed in tokens}) / n,
        sum([len(listed & topic) / (len(listed) + 1) for listed in words]) / n,
        float(any("all" in listed and ("above" in listed or "these" in listed) for listed in words)),
        float("none" in said or "neither" in said),
        float(not said.isdisjoint(_TRUTH)),
        float("both" in said or "ii" in said),
        sum([not listed.isdisjoint(_ABSOLUTE) for listed in words]) / n,
        float(len(set(words)) < n),
        sum(["," in listed or ";" in listed for listed in tokens]) / n,
        sum(map(len, said)) / (len(said) or 1),
    ]


_NO_OPTIONS = [0.0] * (len(STRUCTURE) - len(_stem("", [])))
