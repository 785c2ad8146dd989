from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as shapes
from numpy.typing import NDArray
from safetensors.numpy import load_file

from leanto_edge import ArtifactError
from leanto_edge.artifact.tensor_file import LINE, TensorFile, write_tensors

ARRAYS = st.sampled_from([np.float32, np.float16, np.uint8, np.int8]).flatmap(
    lambda kind: shapes.arrays(kind, shapes.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=9))
)
NAMES = st.text(min_size=1, max_size=30).filter(lambda name: name != "__metadata__")


@given(st.dictionaries(NAMES, ARRAYS, min_size=1, max_size=8))
def test_what_is_written_is_read_back_by_us_and_by_the_library(
    tmp_path_factory: pytest.TempPathFactory, tensors: dict[str, NDArray[Any]]
) -> None:
    path = tmp_path_factory.mktemp("file") / "t.safetensors"
    write_tensors(path, tensors)
    for found in (TensorFile(path), load_file(path)):
        assert set(found) == set(tensors)
        for name, tensor in tensors.items():
            assert found[name].dtype == tensor.dtype
            np.testing.assert_array_equal(found[name], tensor)


def test_tensors_of_whole_cache_lines_lie_along_them(tmp_path: Path) -> None:
    tensors = {"a": np.zeros(3, np.float32), "b": np.zeros((5, 64), np.uint8), "c": np.zeros((2, 16), np.int8), "d": np.zeros(64, np.int8)}
    write_tensors(tmp_path / "t", tensors)
    content = (tmp_path / "t").read_bytes()
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    assert (8 + size) % LINE == 0
    assert all(header[name]["data_offsets"][0] % LINE == 0 for name in ("b", "d"))
    assert header["a"]["data_offsets"][0] % 4 == 0


def test_a_header_that_would_fill_the_memory_is_refused_unread(tmp_path: Path) -> None:
    with (tmp_path / "t").open("wb") as file:
        file.write((17 << 20).to_bytes(8, "little"))
        file.truncate(18 << 20)
    with pytest.raises(ArtifactError, match="over 16 MiB"):
        TensorFile(tmp_path / "t")


EMPTY: dict[str, Any] = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}


@pytest.mark.parametrize(
    "entry", [{**EMPTY, "shape": [0, 2**63]}, {**EMPTY, "shape": [0, 2**62, 4]}, {**EMPTY, "shape": [0] * 70}, [*EMPTY.values()]]
)
def test_what_the_library_takes_for_a_tensor_and_numpy_does_not_is_refused(tmp_path: Path, entry: Any) -> None:
    header = json.dumps({"a": entry}).encode()
    (tmp_path / "t").write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(ArtifactError):
        TensorFile(tmp_path / "t")
