"""Frozen values out of JSON: every field of the type that its annotation names and every number within its range, or ValueError.

Names that a dataclass does not have are passed over. Knows nothing of what the values mean.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

Range = tuple[float, float]
Read = Callable[[Any], Any]


def reader(kind: type[Any], ranges: Mapping[str, Range], other: Range) -> Read:
    """What makes a `kind`, a dataclass, out of what json.loads returned. `ranges` are those of numbers by the name of their field, `other`
    that of all others. The reader raises ValueError."""
    hints = get_type_hints(kind)
    known = [(field.name, _of(hints[field.name], ranges, ranges.get(field.name, other), other), _needed(field)) for field in fields(kind)]

    def read(value: Any) -> Any:
        _expect(isinstance(value, dict))
        _expect(all(name in value for name, _, needed in known if needed))
        return kind(**{name: part(value[name]) for name, part, _ in known if name in value})

    return read


def _needed(field: Any) -> bool:
    return field.default is MISSING and field.default_factory is MISSING


def _of(hint: Any, ranges: Mapping[str, Range], within: Range, other: Range) -> Read:
    """The reader of an annotation."""
    origin, parts = get_origin(hint), get_args(hint)
    if is_dataclass(hint) and isinstance(hint, type):
        return reader(hint, ranges, other)
    if origin in (UnionType, Union):
        kinds = sorted(parts, key=lambda part: part is not NoneType)  # what is missing is told at once
        return _any([_of(part, ranges, within, other) for part in kinds])
    if origin is Literal:
        return _checked(lambda value: isinstance(value, str) and value in parts)
    if origin is tuple:
        return _several(_of(parts[0], ranges, within, other))
    if hint in (int, float):
        numbers, (low, high) = int if hint is int else (int, float), within
        return _checked(lambda value: isinstance(value, numbers) and not isinstance(value, bool) and low <= value <= high)
    assert hint in (str, bool, NoneType), hint
    return _checked(lambda value: isinstance(value, hint))


def _checked(holds: Callable[[Any], bool]) -> Read:
    def read(value: Any) -> Any:
        _expect(holds(value))
        return value

    return read


def _several(part: Read) -> Read:
    def read(value: Any) -> Any:
        _expect(isinstance(value, list))
        return tuple(map(part, value))

    return read


def _any(readers: list[Read]) -> Read:
    def read(value: Any) -> Any:
        for one in readers:
            try:
                return one(value)
            except ValueError:
                continue
        raise ValueError

    return read


def _expect(holds: bool) -> None:
    if not holds:
        raise ValueError
