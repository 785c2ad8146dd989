"""JSON as a tree that can hold what a careful writer would not write: a key twice, numbers without end, text that is no text."""

from __future__ import annotations

import json
from random import Random
from typing import Any


class Raw(str):
    """Text that stands in the document as it is."""


class Object(list[list[Any]]):
    """The [key, value] pairs of a JSON object, as they were written."""


ODD = (
    "null", "true", "false", "0", "-1", "1", "0.5", "-0.0", "1e999", "-1e999", "NaN", "Infinity", "1e-320", "3.5e38", "-", "",
    "255", "32767", "65536", "16777216", "2147483647", "2147483648", "4294967295", "9007199254740993", "9223372036854775807",
    "9223372036854775808", "18446744073709551615", "18446744073709551616", "-9223372036854775808", "9" * 400, "9" * 4300, "9" * 5000,
    '""', '"\\u0000"', '"\\ud800"', '"a\\nb"', '"../../etc/passwd"', '"' + "x" * 5000 + '"', "[]", "{}", "[[]]", '[""]', "[1e308, null]",
    '{"": {}}', '["a", "a"]', "[" * 100_000, "[" + "0," * 5000 + "0]",
)  # fmt: skip


def parse(text: bytes) -> Any:
    """The tree of `text`. Raises ValueError."""
    return json.loads(text, object_pairs_hook=lambda pairs: Object(map(list, pairs)))


def dump(node: Any) -> str:
    """The text of a tree."""
    if isinstance(node, Raw):
        return str(node)
    if isinstance(node, Object):
        return "{" + ",".join(f"{key if isinstance(key, Raw) else json.dumps(key)}:{dump(value)}" for key, value in node) + "}"
    if isinstance(node, list):
        return "[" + ",".join(map(dump, node)) + "]"
    return json.dumps(node)


def mutate(tree: Any, random: Random) -> Any:
    """`tree`, changed in one place (in itself, if it is no leaf)."""
    if not isinstance(tree, list) or not tree or random.random() < 0.05:
        return _other(tree, random)
    _change_inside(tree, random)
    return tree


def _change_inside(container: list[Any], random: Random) -> None:
    at = random.randrange(len(container))
    child = container[at][1] if isinstance(container, Object) else container[at]
    if isinstance(child, list) and child and random.random() < 0.8:
        _change_inside(child, random)
        return
    change = random.randrange(8)
    if change == 0:
        del container[at]
    elif change == 1 and isinstance(container, Object):  # a key twice
        container.append([container[at][0], _other(child, random)])
    elif change == 2 and isinstance(container, Object):  # another key
        container[at][0] = random.choice(container)[0] if random.random() < 0.5 else Raw(random.choice(('""', '"\\ud800"', '"a\\nb"', "0")))
    elif change == 3:  # an unknown key, or one item more
        container.append(["unheard_of", _other(child, random)] if isinstance(container, Object) else _other(child, random))
    elif isinstance(container, Object):
        container[at][1] = random.choice(container)[1] if change == 4 else _other(child, random)
    else:
        container[at] = random.choice(container) if change == 4 else _other(child, random)


def _other(value: Any, random: Random) -> Any:
    """What may stand in the place of `value`: something near it, or one of ODD."""
    if type(value) is int and random.random() < 0.5:
        near = (value + 1, value - 1, value * 2, value // 2, -value, value + 256)
        return random.choice((*near, value << 32, 2**64 - value, Raw(f"{value}.0")))
    if isinstance(value, float) and random.random() < 0.3:
        return random.choice((-value, value * 1e30, value * 1e-30))
    return _deep(random) if random.random() < 0.1 else Raw(random.choice(ODD))


def _deep(random: Random) -> Raw:
    """Lists or objects in each other, about as deep as Python reads them."""
    depth = random.choice((50, 120, 300, random.randrange(900, 1000)))
    return Raw(random.choice(("[" * depth + "]" * depth, '{"a":' * depth + "0" + "}" * depth)))
