"""Makes a malformed model folder out of a sound one. As an attacker would, it mostly lets the hashes agree with what was changed.

All that happens follows from the `Random` that is given.
"""

from __future__ import annotations

import json
import struct
from contextlib import suppress
from enum import Enum
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any, TypeAlias

from safetensors.numpy import load

from fuzz import json_text
from fuzz.json_text import Object
from fuzz.seeds import ADAPTER, SEEDS, seed
from leanto_edge.adapter import METADATA, _content_hash
from leanto_edge.artifact.architecture import ModelShape
from leanto_edge.artifact.layout import matrix_sizes, vector_sizes
from leanto_edge.artifact.manifest import CONFIG, MANIFEST, WEIGHTS, build_hash_of


class Place(Enum):
    """What may stand in the place of a file."""

    NOTHING = "nothing"
    DIRECTORY = "directory"
    LOOP = "a link to itself"
    DEVICE = "a link to a device without end"
    PIPE = "a pipe that nobody writes to"


Folder: TypeAlias = dict[str, bytes | Place]

FLOATS = (float("nan"), float("inf"), float("-inf"), 0.0, -1.0)
NUMBERS = {
    "F32": [struct.pack("<f", x) for x in (*FLOATS, 3.4e38, -3.4e38, 1e20, 1e-40)],
    "F16": [struct.pack("<e", x) for x in (*FLOATS, 65504.0, -65504.0, 6e-8)],
    "U8": [b"\x00", b"\xff", b"\x80"],
    "I8": [b"\x80", b"\x81", b"\x7f", b"\x00"],
}


def malformed(random: Random) -> Folder:
    """A folder with one to three changes."""
    folder: Folder = dict(seed(random.choice(SEEDS)))
    if random.random() < 0.7:
        del folder[ADAPTER]
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        _change(folder, random)
    if random.random() < 0.9:
        sign(folder)
    if random.random() < 0.1:  # what a signature would put right
        folder[random.choice(sorted(folder))] = random.choice(list(Place))
    if MANIFEST in folder and random.random() < 0.1:
        _change(folder, random, MANIFEST)
    return folder


def _change(folder: Folder, random: Random, name: str | None = None) -> None:
    name = name or random.choice(sorted(folder))
    content = folder[name]
    if not isinstance(content, bytes):
        return
    if random.random() < 0.1:
        folder[name] = _other_bytes(content, random)
        return
    with suppress(ValueError, TypeError, LookupError, RecursionError):  # it was broken before
        if name in (WEIGHTS, ADAPTER):
            folder[name] = _other_tensors(content, random)
        else:
            folder[name] = json_text.dump(json_text.mutate(json_text.parse(content), random)).encode()


def _other_bytes(content: bytes, random: Random) -> bytes:
    at, to = sorted((random.randrange(len(content) + 1), random.randrange(len(content) + 1)))
    more = random.choice((b"", b"\0", b"\xff", b"\xef\xbb\xbf", b"\x80" * 9, b"[" * 2000, b'"', random.randbytes(8)))
    return random.choice((content[:at], content[to:], content[:at] + more + content[to:], content[:at] + more + content[at:], content * 2))


def _other_tensors(content: bytes, random: Random) -> bytes:
    """A safetensors file with another header, other numbers, or a header length that lies."""
    size = int.from_bytes(content[:8], "little")
    header, data = json_text.parse(content[8 : 8 + size]), bytearray(content[8 + size :])
    change = random.randrange(10)
    if change < 4:
        _change_numbers(header, data, random)
    elif change < 6:
        _exchange(header, random)
    elif change < 9:
        header = _other_header(header, random)
    text = json_text.dump(header).encode()
    length = random.choice((0, 1, len(text) + 1, 1 << 27, 1 << 63, (1 << 64) - 1)) if change == 9 else len(text)
    return struct.pack("<Q", length) + text + data


def _other_header(header: Any, random: Random) -> Any:
    """Another header; in that of an adapter mostly another description."""
    metadata = dict(map(tuple, header)).get("__metadata__", Object())
    for pair in metadata:
        if pair[0] == METADATA and random.random() < 0.8:
            pair[1] = json_text.dump(json_text.mutate(json_text.parse(pair[1]), random))
            return header
    if random.random() < 0.3:
        return Object([*header, _empty_tensor(random)])
    return json_text.mutate(header, random)


def _empty_tensor(random: Random) -> list[Any]:
    """An entry of no bytes and of a shape that may be anything, perhaps written as a list."""
    shape = [random.choice((0, 1, 2**31, 2**62, 2**63, 2**64 - 1)) for _ in range(random.choice((1, 2, 3, 70)))]
    fields = [["dtype", random.choice(("F32", "BF16", "U8", "F4", "BOOL"))], ["shape", [0, *shape]], ["data_offsets", [0, 0]]]
    return ["one.more", Object(fields) if random.random() < 0.8 else [value for _, value in fields]]


def _change_numbers(header: Any, data: bytearray, random: Random) -> None:
    """Another number in one tensor: once, here and there, or everywhere."""
    entry = dict(map(tuple, random.choice([value for name, value in header if name != "__metadata__"])))
    number = random.choice(NUMBERS.get(entry["dtype"], NUMBERS["U8"]))
    begin, end = entry["data_offsets"]
    count = (min(end, len(data)) - begin) // len(number)
    stride = random.choice((1, 7, count))
    for at in range(random.randrange(count), count, stride) if stride > 1 else range(count):
        data[begin + at * len(number) : begin + (at + 1) * len(number)] = number


def _exchange(header: Any, random: Random) -> None:
    """Two tensors take each other's place, name, type or shape, or lie upon each other."""
    one, other = (random.choice([pair for pair in header if pair[0] != "__metadata__"]) for _ in range(2))
    if random.random() < 0.3:
        one[0], other[0] = other[0], one[0]
        return
    field, both = random.randrange(3), random.random() < 0.5
    one[1][field][1], other[1][field][1] = other[1][field][1], one[1][field][1] if both else other[1][field][1]


def sign(folder: Folder) -> None:
    """Let the hashes and sizes in the manifest and in the adapter agree with what they stand for, where they still can."""
    with suppress(Exception):
        _sign_manifest(folder)
    with suppress(Exception):
        _sign_adapter(folder)


def _sign_manifest(folder: Folder) -> None:
    manifest = json_text.parse(_bytes(folder, MANIFEST))
    files = next(value for key, value in manifest if key == "files")
    for pair in files:
        with suppress(KeyError):
            content = _bytes(folder, pair[0])
            pair[1] = Object([["sha256", sha256(content).hexdigest()], ["bytes", len(content)]])
    listed = json.loads(json_text.dump(files))
    derived = {"build_hash": build_hash_of(listed), "stored_bytes": sum(entry["bytes"] for entry in listed.values())}
    with suppress(Exception):
        shape = ModelShape.from_config(Path(CONFIG), json.loads(_bytes(folder, CONFIG)))
        derived["parameters"] = sum(m * n for m, n in matrix_sizes(shape).values()) + sum(vector_sizes(shape).values())
        derived["bits_per_weight"] = 8 * listed[WEIGHTS]["bytes"] / derived["parameters"]
    for pair in manifest:
        pair[1] = derived.get(pair[0], pair[1])
    folder[MANIFEST] = json_text.dump(manifest).encode()


def _sign_adapter(folder: Folder) -> None:
    content = _bytes(folder, ADAPTER)
    size = int.from_bytes(content[:8], "little")
    header = json_text.parse(content[8 : 8 + size])
    metadata = next(value for key, value in header if key == "__metadata__")
    description = json.loads(metadata[0][1])
    if MANIFEST in folder:
        description["base"] = json.loads(_bytes(folder, MANIFEST))["build_hash"]
    else:
        names = sorted(set(folder) - {ADAPTER})
        description["base"] = build_hash_of({name: {"sha256": sha256(_bytes(folder, name)).hexdigest()} for name in names})
    description.pop("sha256", None)
    description["sha256"] = _content_hash(description, load(content))
    metadata[0][1] = json.dumps(description)
    text = json_text.dump(header).encode()
    folder[ADAPTER] = struct.pack("<Q", len(text)) + text + content[8 + size :]


def _bytes(folder: Folder, name: str) -> bytes:
    content = folder[name]
    if not isinstance(content, bytes):
        raise KeyError(name)
    return content
