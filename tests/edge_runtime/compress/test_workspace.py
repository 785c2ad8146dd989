from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from leanto_edge import ArtifactError
from leanto_edge.artifact.layout import MatrixSpec
from leanto_edge.compress.matrix import CompressedMatrix
from leanto_edge.compress.workspace import Workspace

SPEC = MatrixSpec("int8", 8, 4, 32)
MATRIX = CompressedMatrix(SPEC, {"codes": np.ones((4, 32), np.int8), "scales": np.ones(4, np.float16)}, 0.125)
JOB = {"source": "a", "seed": 0}


def workspace(tmp_path: Path, job: dict[str, object] = JOB, *, resume: bool = True) -> Workspace:
    return Workspace(tmp_path / "out", job, resume=resume)


def test_a_finished_matrix_is_found_again(tmp_path: Path) -> None:
    workspace(tmp_path).save("m", MATRIX)
    found = workspace(tmp_path).load("m", SPEC)
    assert found is not None
    assert found.error == MATRIX.error
    np.testing.assert_array_equal(found.tensors["codes"], MATRIX.tensors["codes"])


@pytest.mark.parametrize(("job", "resume"), [({"source": "b", "seed": 0}, True), (JOB, False)])
def test_what_is_not_to_be_resumed_is_dropped(tmp_path: Path, job: dict[str, object], resume: bool) -> None:
    workspace(tmp_path).save("m", MATRIX)
    assert workspace(tmp_path, job, resume=resume).load("m", SPEC) is None


def test_a_matrix_stored_in_another_way_is_made_again(tmp_path: Path) -> None:
    workspace(tmp_path).save("m", MATRIX)
    assert workspace(tmp_path).load("m", MatrixSpec("int8", 8, 4, 32, in_seed=5)) is None


@pytest.mark.parametrize("length", [0, 7, 40, 200])
def test_a_half_written_matrix_is_made_again(tmp_path: Path, length: int) -> None:
    space = workspace(tmp_path)
    space.save("m", MATRIX)
    file = space.path / "m.safetensors"
    file.write_bytes(file.read_bytes()[:length])
    assert space.load("m", SPEC) is None


def test_a_place_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a directory")
    with pytest.raises(ArtifactError, match="cannot be written"):
        workspace(tmp_path / "file")


def test_nothing_is_left_after_the_end(tmp_path: Path) -> None:
    space = workspace(tmp_path)
    space.save("m", MATRIX)
    space.remove()
    assert list(tmp_path.iterdir()) == []
