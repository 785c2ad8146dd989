"""Small changes to sound input, as bytes, numbers in their places, JSON, TOML or protobuf; some of what is drawn stays as it is."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from fuzz import json_text

SOUND = 0.1  # share of the cases that are as the writer made them
FOREIGN = 0.03  # share of those that have no origin
TOKENS = (
    b"", b"\0", b"\x7f", b"\xff", b"\x80" * 12, b"\x81", b"\x9f", b"\xbf", b"\x0b" * 300, b"\x80\x80\x80\x80\x10", b"\xff" * 9 + b"\x01",
    b"\x12\xff\xff\xff\xff\x0f", b"\n", b"\n\n", b"\r", b"\t", b" ", b"[", b"]", b'{"', b'"', b"'", b"}", b".", b",", b"=", b"-", b"+",
    b"0", b"9" * 40, b"9" * 5000, b"1e999", b"NaN", b"null", b"%", b"\\u0000", b"\\ud800", "\u2014 ".encode(), "\u202e".encode(),
    "é".encode(), b"\xed\xa0\x80", b"../", b"-----BEGIN CERTIFICATE-----",
)  # fmt: skip

NUMBERS = (0, 1, -1, 2, 7, 127, 128, 2**31 - 1, -(2**31), 2**32 - 1, 2**63 - 1, -(2**63), 2**64 - 1)
FLOATS = (0.0, -0.0, 0.5, 1.0, -1.0, 1e-40, 3e38, float("inf"), float("-inf"), float("nan"))
TEXTS = ("", " ", "a b", "\0", "\ufffd", "\u202e", "é" * 300, "x" * 5000, "{" * 500, "\n" * 50, "<|im_end|>", "\U0010ffff")
LONGEST = 64 << 10  # a text or bytes of a message: seventy of them leave the process its memory, which protobuf does not ask for twice
RANGES = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_ENUM: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, 2**64 - 1),
}

Change = Callable[[Random, bytes], bytes]


def drawn(seed: Callable[[Random], bytes], change: Change | None = None) -> Callable[[Random], bytes]:
    """Draws `seed` changed, now and then as it is, seldom bytes of no origin."""

    def make(random: Random) -> bytes:
        chance = random.random()
        if chance < FOREIGN:
            return random.randbytes(random.randrange(300))
        raw = seed(random)
        return raw if chance < FOREIGN + SOUND else (change or changed)(random, raw)

    return make


def fixed(seed: Callable[[], bytes], change: Change | None = None) -> Callable[[Random], bytes]:
    """The same of a seed that needs no chance."""
    return drawn(lambda _: seed(), change)


def one_of(parts: Callable[[Random], Sequence[bytes]], change: Change | None = None) -> Callable[[Random], tuple[bytes, ...]]:
    """Draws the parts with one of them changed, or all as they are, or one left out, twice, or in the place of another."""

    def make(random: Random) -> tuple[bytes, ...]:
        found = list(parts(random))
        at, chance = random.randrange(len(found)), random.random()
        if chance < 0.05:
            del found[at]
        elif chance < 0.1:
            found.insert(at, random.choice(found))
        elif chance < 0.15:
            found[at] = random.choice(found)
        elif chance > SOUND + 0.15:
            found[at] = (change or changed)(random, found[at])
        return tuple(found)

    return make


def changed(random: Random, raw: bytes) -> bytes:
    """`raw` with a few bytes changed, cut, repeated or put in."""
    data = bytearray(raw)
    for _ in range(random.choice((1, 1, 1, 2, 4, 16))):
        start = random.randrange(len(data) + 1)
        end = min(len(data), start + random.choice((1, 1, 2, 4, 8, 40, 400)))
        change = random.randrange(8)
        if change < 2 and data:
            data[start % len(data)] ^= 1 << random.randrange(8)
        elif change == 2:
            del data[start:end]
        elif change == 3:
            data[start:start] = data[start:end] * random.choice((1, 1, 2, 8, 50))
        elif change == 4:
            data[start:end] = random.choice(TOKENS)
        elif change == 5:
            data[start:start] = random.choice(TOKENS) * random.choice((1, 1, 3, 60))
        elif change == 6:
            data[start:start] = random.randbytes(random.randint(1, 40))
        else:
            data[start:end] = random.randbytes(end - start)
    return bytes(data)


def changed_json(random: Random, raw: bytes) -> bytes:
    """A JSON document with values, names and members changed; one in four as mere bytes."""
    if random.random() < 0.25:
        return changed(random, raw)
    tree = json_text.parse(raw)
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        tree = json_text.mutate(tree, random)
        if not isinstance(tree, list):
            break
    return json_text.dump(tree).encode(errors="replace")


def changed_number(random: Random, raw: bytes) -> bytes:
    """Fixed fields: some overwritten in their places, the length as it was."""
    data = bytearray(raw)
    for _ in range(random.choice((1, 1, 2, 4))):
        start = random.randrange(len(data))
        size = min(len(data) - start, random.choice((1, 1, 2, 4, 8)))
        data[start : start + size] = random.choice((bytes(size), b"\xff" * size, random.randbytes(size)))
    return bytes(data)


def changed_message(kind: type[Message]) -> Change:
    """A protobuf message with one of its values changed, at any depth; one in four as mere bytes."""

    def change(random: Random, raw: bytes) -> bytes:
        if random.random() < 0.25:
            return changed(random, raw)
        message = kind.FromString(raw)
        for _ in range(random.choice((1, 1, 1, 2, 3, 8))):
            _change_field(random, message)
        return message.SerializeToString()

    return change


def _change_field(random: Random, message: Any) -> None:
    """Of those that are set, or now and then of those that could be."""
    if random.random() < 0.1 or not (fields := [field for field, _ in message.ListFields()]):
        fields = list(message.DESCRIPTOR.fields)
    field = random.choice(fields)
    value = getattr(message, field.name)
    if hasattr(value, "DESCRIPTOR"):
        _change_field(random, value)
    elif not isinstance(value, bool | int | float | str | bytes):  # repeated
        _change_list(random, value, field)
    else:
        setattr(message, field.name, _other(random, field, value))


def _change_list(random: Random, values: Any, field: FieldDescriptor) -> None:
    at = random.randrange(len(values)) if values else 0
    if not values or random.random() < 0.3:
        if field.message_type:
            values.add().CopyFrom(values[at] if len(values) > 1 else field.message_type._concrete_class())
        else:
            empty: Any = {FieldDescriptor.TYPE_BYTES: b"", FieldDescriptor.TYPE_STRING: "", FieldDescriptor.TYPE_FLOAT: 0.0}.get(
                field.type, 0
            )
            values.extend([_other(random, field, values[at] if values else empty)] * random.choice((1, 1, 70)))
    elif random.random() < 0.3:
        del values[at]
    elif field.message_type:
        _change_field(random, values[at])
    else:
        values[at] = _other(random, field, values[at])


def _other(random: Random, field: FieldDescriptor, value: Any) -> Any:
    if isinstance(value, bytes):
        return changed(random, value)[:LONGEST]
    if isinstance(value, str):
        return random.choice((*TEXTS, changed(random, value.encode())[:LONGEST].decode(errors="replace")))
    if isinstance(value, float):
        return random.choice(FLOATS)
    if isinstance(value, bool):
        return not value
    least, most = RANGES[field.cpp_type]
    return min(max(random.choice((*NUMBERS, value + 1, value - 1)), least), most)


TOML_VALUES = (
    b"0", b"-1", b"1", b"0.5", b"1e400", b"nan", b"-inf", b"true", b'""', b'"off"', b'"cloud"', b"[]", b"[[]]", b'["local", "cloud"]',
    b"{}", b'{ a = 1 }', b"1979-05-27T07:32:00Z", b"07:32:00", b"9223372036854775808", b"0x" + b"f" * 400, b'"\\u0000"', b"'''\n'''",
    b"1_0", b"_", b'"' + b"x" * 5000 + b'"', b"[" * 300 + b"]" * 300, b"[" * 3000, b"{a=" * 300 + b"1" + b"}" * 300, b"9" * 5000,
    b'"a\\nb"', b"", '"\u202e"'.encode(), b"[1, 2.0, \"a\"]", b"[" + b"1," * 3000 + b"]",
)  # fmt: skip


def changed_toml(random: Random, raw: bytes) -> bytes:
    """A TOML document with lines moved, repeated, left out, renamed or given other values; one in four as mere bytes."""
    if random.random() < 0.25:
        return changed(random, raw)
    lines = raw.split(b"\n")
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        at, other = random.randrange(len(lines)), random.choice(lines)
        name, equals, value = lines[at].partition(b"=")
        match random.randrange(7):
            case 0:
                lines.insert(at, other)
            case 1 if len(lines) > 1:
                del lines[at]
            case 2 if equals:
                lines[at] = name + equals + b" " + random.choice(TOML_VALUES)
            case 3 if equals:
                lines[at] = other.partition(b"=")[0] + equals + value
            case 4:
                lines[at] = random.choice((b"[a]", b"[[rules]]", b"[rules]", b"a.b.c = 1", b"[" + b"a." * 300 + b"a]", b'"" = 1', b"# \0"))
            case 5 if equals:
                lines[at] = name + equals + other.partition(b"=")[2]
            case _:
                lines[at] = changed(random, lines[at])
    return b"\n".join(lines)


def text(raw: bytes) -> str:
    """What a parser of text is given."""
    return raw.decode(errors="replace")


def json_of(value: object) -> bytes:
    """As a writer without whims writes it."""
    return json.dumps(value).encode()
