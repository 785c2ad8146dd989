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
Holds = Callable[[Any], bool]


def reader(kind: type[Any], ranges: Mapping[str, Range], other: Range) -> Read:
    """What makes a `kind`, a dataclass, out of what json.loads returned. `ranges` are those of numbers by the name of their field, `other`
    that of all others. The reader raises ValueError."""
    hints = get_type_hints(kind)
    parts = [(field.name, _reads(hints[field.name], ranges, ranges.get(field.name, other), other)) for field in fields(kind)]
    needed = {field.name for field in fields(kind) if field.default is MISSING and field.default_factory is MISSING}

    def read(value: Any) -> Any:
        if not isinstance(value, dict) or not needed <= value.keys():
            raise ValueError
        return kind(**{name: part(value[name]) for name, part in parts if name in value})

    return read


def _reads(hint: Any, ranges: Mapping[str, Range], within: Range, other: Range) -> Read:
    """The reader of an annotation: a dataclass, a tuple, one of these or None, or a plain value."""
    origin, parts = get_origin(hint), get_args(hint)
    if is_dataclass(hint) and isinstance(hint, type):
        return reader(hint, ranges, other)
    if origin is tuple:
        return _several(_reads(parts[0], ranges, within, other))
    inner = [part for part in parts if is_dataclass(part)]
    if inner:
        (part,) = inner
        return _or_none(_reads(part, ranges, within, other))
    return _checked(_holds(hint, within))


def _holds(hint: Any, within: Range) -> Holds:
    """Whether a plain value is what an annotation names."""
    if get_origin(hint) in (UnionType, Union):
        kinds = [_holds(part, within) for part in get_args(hint)]
        return lambda value: any(holds(value) for holds in kinds)
    if get_origin(hint) is Literal:
        names = get_args(hint)
        return lambda value: isinstance(value, str) and value in names
    if hint in (int, float):
        numbers, (low, high) = int if hint is int else (int, float), within
        return lambda value: isinstance(value, numbers) and not isinstance(value, bool) and low <= value <= high
    assert hint in (str, bool, NoneType), hint
    return lambda value: isinstance(value, hint)


def _checked(holds: Holds) -> Read:
    def read(value: Any) -> Any:
        if not holds(value):
            raise ValueError
        return value

    return read


def _several(part: Read) -> Read:
    def read(value: Any) -> Any:
        if not isinstance(value, list):
            raise ValueError
        return tuple(map(part, value))

    return read


def _or_none(part: Read) -> Read:
    return lambda value: None if value is None else part(value)
