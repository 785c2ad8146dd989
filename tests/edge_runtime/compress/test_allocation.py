from __future__ import annotations

import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from leanto_edge.artifact.layout import MatrixSpec
from leanto_edge.artifact.tensor_file import LINE, write_tensors
from leanto_edge.compress.allocation import Candidate, allocate, lower_hull, stored_size, vectors_size

ANY = MatrixSpec("trellis", 2, 8, 8)
options = st.lists(st.tuples(st.integers(1, 60), st.floats(0, 10)), min_size=1, max_size=5).map(
    lambda pairs: [Candidate(ANY, size, kl) for size, kl in pairs]
)
models = st.lists(options, min_size=1, max_size=4).map(lambda lists: {str(at): found for at, found in enumerate(lists)})


def total(chosen: dict[str, Candidate]) -> tuple[int, float]:
    return sum(found.size for found in chosen.values()), sum(found.kl for found in chosen.values())


@given(candidates=models, spare=st.integers(0, 200))
def test_the_budget_is_kept_and_near_the_best_there_is(candidates: dict[str, list[Candidate]], spare: int) -> None:
    budget = sum(lower_hull(found)[0].size for found in candidates.values()) + spare
    size, kl = total(allocate(candidates, budget))
    assert size <= budget
    everything = [total(dict(zip(candidates, choice, strict=True))) for choice in itertools.product(*candidates.values())]
    best = min(found for used, found in everything if used <= budget)
    start = sum(lower_hull(found)[0].kl for found in candidates.values())
    steps = [one.kl - other.kl for found in candidates.values() for one, other in itertools.pairwise(lower_hull(found))]
    assert kl <= best + max(steps, default=0.0) + 1e-9  # a greedy walk loses at most the one step that does not fit
    assert kl <= start + 1e-12


@given(candidates=models)
def test_with_room_for_everything_every_matrix_gets_its_best(candidates: dict[str, list[Candidate]]) -> None:
    budget = sum(max(option.size for option in found) for found in candidates.values())
    assert total(allocate(candidates, budget))[1] == pytest.approx(sum(min(option.kl for option in found) for found in candidates.values()))


def test_a_budget_below_the_least_is_refused_with_the_least() -> None:
    candidates = {"a": [Candidate(ANY, 10, 1.0), Candidate(ANY, 20, 0.5)], "b": [Candidate(ANY, 5, 1.0)]}
    with pytest.raises(ValueError, match="14 bytes are too few: the smallest that this model can take is 15"):
        allocate(candidates, 14)


@given(found=options)
def test_the_hull_is_convex_and_below_every_candidate(found: list[Candidate]) -> None:
    hull = lower_hull(found)
    gains = [(one.kl - other.kl) / (other.size - one.size) for one, other in itertools.pairwise(hull)]
    assert all(gain > 0 for gain in gains)
    assert all(one >= other - 1e-12 for one, other in itertools.pairwise(gains))
    for option in found:
        assert any(point.size <= option.size for point in hull)
        price = max((gain for gain in gains), default=0.0)
        assert min(point.kl + price * point.size for point in hull) <= option.kl + price * option.size + 1e-9


@pytest.mark.parametrize(
    "spec",
    [
        MatrixSpec("trellis", 2, 300, 200),
        MatrixSpec("additive", 3, 40, 64, 8, 1, 2, 4),
        MatrixSpec("scalar", 4, 7, 1, 1, 0, 0, 8),
        MatrixSpec("int8", 8, 33, 65),
        MatrixSpec("trellis", 1, 64, 64, 4),
    ],
    ids=str,
)
def test_the_size_is_that_of_the_file(spec: MatrixSpec, tmp_path: Path) -> None:
    kinds = {"U8": np.uint8, "I8": np.int8, "F16": np.float16, "F32": np.float32}
    tensors = {
        name: np.zeros(tensor.shape, kinds["F16" if "F16" in tensor.dtypes else next(iter(tensor.dtypes))])
        for name, tensor in spec.tensors("model.layers.0.mlp.up_proj").items()
    }
    tensors["model.norm.weight"] = np.zeros(64, np.float32)
    write_tensors(tmp_path / "file", tensors)
    actual = (tmp_path / "file").stat().st_size
    expected = stored_size("model.layers.0.mlp.up_proj", spec, actual) + vectors_size({"model.norm.weight": 64}, actual)
    digits = 2 * len(tensors) * math.ceil(math.log10(actual))
    assert actual <= expected <= actual + digits + LINE + 8
    assert json.dumps(spec.as_dict())
