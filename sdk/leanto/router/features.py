"""From a prompt to numbers: how it is built (length, symbols, kind of question, its answer options) and which words are in it.

Pure, of the text alone. Form transfers to subjects that were never seen, words tell the known ones apart. The word lists are
English; in other languages what remains is length, symbols, options and the hashed words. Knows nothing of models or weights.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

BUCKETS = 1 << 16  # of hashed words and pairs of words
_PAIR = np.uint32(2654435761)  # an odd multiplier (Knuth, TAOCP 6.4), so that a pair is not the pair turned round

_TOKEN = re.compile(r"[^\W\d_]+|\d+|_+|[^\w\s]")
_OPTION = re.compile(r"^[ \t]*(?:[A-Ja-j]|[1-9])[.)][ \t]+(\S.*)$", re.MULTILINE)
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
_ASKED = tuple((name, frozenset(words)) for name, words in _ASKS.items())

STRUCTURE = (
    *("log_chars", "log_words", "word_length", "long_words", "stop_words", "capitals", "numbers", "math", "equation", "money"),
    *("quotes", "ends_asking", "blank", "ends_colon", "unfinished", "negation", "negation_in_capitals", "of_the_following"),
    *("first_person", "third_person", "lines", "sentences", "sentence_length", "year"),
    *_ASKS,
    *("options", "option_length", "option_spread", "option_longest", "option_shortest", "option_numbers", "option_digits"),
    *("option_math", "option_single_words", "option_capitals", "option_similarity", "option_closest", "option_starts"),
    *("option_overlap", "option_all", "option_none", "option_truth", "option_both", "option_absolute", "option_permuted"),
    *("option_lists", "option_word_length"),
)


def structure(text: str) -> list[float]:
    """How the prompt is built: one finite number for each name in STRUCTURE."""
    stem, options = split_options(text)
    return _stem(stem) + (_options(options, stem) if options else _NO_OPTIONS)


def terms(text: str) -> NDArray[np.int64]:
    """The distinct buckets (k,) of its words and pairs of neighbouring words; case is ignored."""
    words = np.fromiter((crc32(word.encode()) for word in _TOKEN.findall(text.lower())), np.uint32)
    pairs = words[:-1] * _PAIR + words[1:]
    pairs ^= pairs >> np.uint32(15)  # the low bits of a product know only the low bits of its factors
    return np.unique(np.concatenate((words, pairs)) % np.uint32(BUCKETS)).astype(np.int64)


def split_options(text: str) -> tuple[str, list[str]]:
    """The question, and the answers that a prompt lists on lines `A. …` or `1) …`; no list, no options."""
    found = list(_OPTION.finditer(text))
    if len(found) < 2:
        return text.strip(), []
    return text[: found[0].start()].strip(), [match[1].strip() for match in found]


def _stem(stem: str) -> list[float]:
    tokens = _TOKEN.findall(stem)
    words = [token for token in tokens if token[0].isalpha()]
    lower = [word.lower() for word in words]
    said = set(lower)
    n = max(1, len(words))
    sentences = sum(tokens.count(mark) for mark in ".!?")
    numbers = [token for token in tokens if token[0].isdigit()]
    return [
        math.log1p(len(stem)),
        math.log1p(len(words)),
        sum(map(len, words)) / n,
        sum(len(word) > 8 for word in words) / n,
        sum(map(_STOP.__contains__, lower)) / n,
        sum(word[0].isupper() for word in words) / n,
        len(numbers) / max(1, len(tokens)),
        sum(map(_MATH.__contains__, tokens)) / max(1, len(tokens)),
        float("=" in stem or "^" in stem),
        float("$" in stem or "%" in stem),
        float('"' in stem or "“" in stem or "''" in stem),
        float(stem.endswith("?")),
        float("__" in stem),
        float(stem.endswith(":")),
        float(bool(stem) and stem[-1] not in "?.:!_"),
        float(not said.isdisjoint(_NEGATIONS)),
        float("NOT" in words or "EXCEPT" in words or "LEAST" in words),
        float("of the following" in stem.lower()),
        sum(map(_FIRST.__contains__, lower)) / n,
        sum(map(_THIRD.__contains__, lower)) / n,
        math.log1p(stem.count("\n")),
        math.log1p(sentences),
        math.log1p(n / (1 + sentences)),
        float(any(len(number) == 4 and number[0] in "12" for number in numbers)),
        *(float(not said.isdisjoint(asked)) for _, asked in _ASKED),
    ]


def _options(options: Sequence[str], stem: str) -> list[float]:
    tokens = [_TOKEN.findall(option.lower()) for option in options]
    words = [{token for token in listed if token[0].isalnum()} for listed in tokens]
    lengths = [len(option) for option in options]
    mean = sum(lengths) / len(lengths)
    alike = [len(a & b) / max(1, len(a | b)) for i, a in enumerate(words) for b in words[:i]]
    said, asked = set().union(*words), set(_TOKEN.findall(stem.lower())) - _STOP
    everything = [token for listed in tokens for token in listed if token[0].isalnum()]
    return [
        math.log1p(len(options)),
        math.log1p(mean),
        math.log1p(math.sqrt(sum((length - mean) ** 2 for length in lengths) / len(lengths))),
        max(lengths) / (mean + 1),
        min(lengths) / (mean + 1),
        _share(sum(token[0].isdigit() for token in listed) * 2 >= len(listed) for listed in tokens),
        _share(any(token[0].isdigit() for token in listed) for listed in tokens),
        _share(not _MATH.isdisjoint(listed) for listed in tokens),
        _share(len(listed) == 1 for listed in tokens),
        _share(option[0].isupper() for option in options),
        sum(alike) / len(alike),
        max(alike),
        len({listed[0] if listed else "" for listed in tokens}) / len(options),
        sum(len(listed & asked) / (len(listed) + 1) for listed in words) / len(options),
        float(any("all" in listed and ("above" in listed or "these" in listed) for listed in words)),
        float("none" in said or "neither" in said),
        float(not said.isdisjoint(_TRUTH)),
        float("both" in said or "ii" in said),
        _share(not listed.isdisjoint(_ABSOLUTE) for listed in words),
        float(len({tuple(sorted(listed)) for listed in tokens}) < len(options)),
        _share("," in listed or ";" in listed for listed in tokens),
        sum(map(len, everything)) / max(1, len(everything)),
    ]


_NO_OPTIONS = [0.0] * (len(STRUCTURE) - len(_stem("")))


def _share(found: Iterable[bool]) -> float:
    listed = list(found)
    return sum(listed) / len(listed)
