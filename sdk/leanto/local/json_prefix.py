"""Whether a text can still become one JSON object: a pushdown automaton, one character at a time (RFC 8259, and Python's NaN and Infinity).

Knows nothing of what the object means.
"""

from __future__ import annotations

import re
from typing import Literal

_SPACE = " \t\n\r"
_WORDS = ("true", "false", "null", "NaN", "Infinity", "-Infinity")
_NUMBER_SO_FAR = re.compile(r"-?(0|[1-9][0-9]*)?((?<=[0-9])\.[0-9]*)?((?<=[0-9])[eE][+-]?[0-9]*)?")
_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_HEX = frozenset("0123456789abcdefABCDEF")

Expected = Literal["object", "value", "first value", "first key", "key", "colon", "comma", "end"]


class JsonPrefix:
    """Of one answer. `alive` turns false for good at the first character that no JSON object has in that place."""

    def __init__(self) -> None:
        self.alive = True
        self._expected: Expected = "object"
        self._open: list[str] = []  # the closing brackets owed, innermost last
        self._word = ""  # a number or name in the making
        self._in_string = False
        self._escape = 0  # characters still owed to an escape: 5 right after the backslash

    def feed(self, text: str) -> bool:
        """Whether all that was fed so far can still become one object."""
        for char in text:
            if not self.alive:
                break
            self.alive = self._string(char) if self._in_string else self._step(char)
        return self.alive

    def _string(self, char: str) -> bool:
        if self._escape == 5:
            self._escape = 4 if char == "u" else 0
            return char in '"\\/bfnrtu'
        if self._escape:
            self._escape -= 1
            return char in _HEX
        if char == "\\":
            self._escape = 5
        elif char == '"':
            self._in_string = False
            self._expected = "colon" if self._expected in ("first key", "key") else "comma"
        return char >= " "

    def _step(self, char: str) -> bool:
        if self._word:
            if not (char in _SPACE or char in ",]}"):
                self._word += char
                return _begins(self._word)
            if not _whole(self._word):
                return False
            self._word, self._expected = "", "comma"
        return char in _SPACE or self._token(char)

    def _token(self, char: str) -> bool:
        expected = self._expected
        if self._open and char == self._open[-1] and expected in ("comma", "first key", "first value"):
            self._open.pop()
            self._expected = "comma" if self._open else "end"
            return True
        if expected in ("value", "first value"):
            return self._value(char)
        if expected in ("key", "first key"):
            self._in_string = char == '"'
            return self._in_string
        if expected == "object" and char == "{":
            return self._value(char)
        if expected == "colon" and char == ":":
            self._expected = "value"
            return True
        if expected == "comma" and char == ",":
            self._expected = "key" if self._open[-1] == "}" else "value"
            return True
        return False

    def _value(self, char: str) -> bool:
        if char == '"':
            self._in_string = True
        elif char in "{[":
            self._open.append("}" if char == "{" else "]")
            self._expected = "first key" if char == "{" else "first value"
        else:
            self._word = char
            return _begins(char)
        return True


def _begins(word: str) -> bool:
    return _NUMBER_SO_FAR.fullmatch(word) is not None or any(whole.startswith(word) for whole in _WORDS)


def _whole(word: str) -> bool:
    return _NUMBER.fullmatch(word) is not None or word in _WORDS
