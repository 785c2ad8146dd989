"""Maps a safetensors file: every tensor becomes a read-only NumPy view of the file, nothing is copied; and writes one to be mapped.

The safetensors library validates the header; this module only finds the bytes, and lays those it writes along cache lines. Knows
nothing of models.
"""

from __future__ import annotations

import json
import mmap
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from leanto_edge.errors import ArtifactError

Array = NDArray[Any]

# BF16 has no NumPy dtype: it is viewed as the uint16 that holds its bits, and `as_float32` widens it.
_DTYPES: dict[str, np.dtype[Any]] = {
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),
    "U8": np.dtype("u1"),
    "I8": np.dtype("i1"),
}
_NAMES = {dtype: name for name, dtype in _DTYPES.items() if name != "BF16"}
_HEADER_LIMIT_BYTES = 16 << 20  # of JSON, which takes many times its size in memory
LINE = 64  # bytes: a vector that crosses a cache line takes two loads
_TRUNCATED = "is truncated or not a safetensors file; fetch it again"


class TensorFile(Mapping[str, Array]):
    """The tensors of `path` by name. `dtypes` has the safetensors name of each one's type. Raises ArtifactError."""

    def __init__(self, path: Path) -> None:
        self.path = path
        data = _map(path)
        header, start = _header(path, data)
        if not all(isinstance(entry, dict) for entry in header.values()):  # the library reads one written as a list, too
            raise ArtifactError(path, _TRUNCATED)
        self.dtypes: dict[str, str] = {name: entry["dtype"] for name, entry in header.items()}
        unknown = sorted(set(self.dtypes.values()) - set(_DTYPES))
        if unknown:
            raise ArtifactError(path, f"holds tensors of type {unknown[0]}; F32, F16, BF16, U8 and I8 are supported")
        try:
            self._views = {name: _view(data, start, entry) for name, entry in header.items()}
        except ValueError:  # a tensor of no elements may have any shape in the file, but not in memory
            raise ArtifactError(path, "holds a tensor with too many or too large dimensions; fetch it again") from None

    def __getitem__(self, name: str) -> Array:
        return self._views[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._views)

    def __len__(self) -> int:
        return len(self._views)

    def as_float32(self, name: str) -> NDArray[np.float32]:
        """Tensor `name` as float32: the mapped view if it is stored so, else a widened copy."""
        stored = self._views[name]
        if self.dtypes[name] == "BF16":
            return (stored.astype(np.uint32) << 16).view(np.float32)
        return stored.astype(np.float32, copy=False)


def write_tensors(path: Path, tensors: Mapping[str, Array]) -> None:
    """Write float32, float16, uint8 and int8 tensors to `path`, through to the disk. Raises OSError.

    The data starts at a multiple of LINE, and so does every tensor whose size is one: those come first.
    """
    arrays = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
    ordered = sorted(arrays, key=lambda name: (arrays[name].nbytes % LINE != 0, -arrays[name].itemsize, name))
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name in ordered:
        begin, end = end, end + arrays[name].nbytes
        header[name] = {"dtype": _NAMES[arrays[name].dtype], "shape": arrays[name].shape, "data_offsets": (begin, end)}
    described = json.dumps(header, separators=(",", ":")).encode()
    described += b" " * (-(8 + len(described)) % LINE)
    with path.open("wb") as file:
        file.write(len(described).to_bytes(8, "little") + described)
        for name in ordered:
            file.write(arrays[name].data)
        file.flush()
        os.fsync(file.fileno())


def _map(path: Path) -> mmap.mmap:
    try:
        with path.open("rb") as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except ValueError:  # an empty file cannot be mapped
        raise ArtifactError(path, _TRUNCATED) from None
    except OSError as error:
        raise ArtifactError(path, f"cannot be read ({error.strerror}); fetch it again") from None


def _header(path: Path, data: mmap.mmap) -> tuple[dict[str, dict[str, Any]], int]:
    """The entries of the header and where the data starts, after the library has checked that they agree with the file."""
    size = int.from_bytes(data[:8], "little")
    if size > _HEADER_LIMIT_BYTES:
        raise ArtifactError(path, f"has a header of over {_HEADER_LIMIT_BYTES >> 20} MiB; fetch it again")
    try:
        with safe_open(path, framework="numpy"):
            pass
    except (SafetensorError, OSError):
        raise ArtifactError(path, _TRUNCATED) from None
    header: dict[str, dict[str, Any]] = json.loads(data[8 : 8 + size])
    header.pop("__metadata__", None)
    return header, 8 + size


def _view(data: mmap.mmap, start: int, entry: Mapping[str, Any]) -> Array:
    dtype = _DTYPES[entry["dtype"]]
    begin, end = entry["data_offsets"]
    flat = np.frombuffer(data, np.uint8, end - begin, start + begin)
    if (start + begin) % dtype.itemsize:
        flat = flat.copy()  # the format does not demand alignment, the kernels do
    return flat.view(dtype).reshape(entry["shape"])
