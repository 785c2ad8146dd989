from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from leanto_edge.artifact.layout import shared_input_groups
from leanto_edge.compress.guidance import token_weights
from leanto_edge.compress.hessian import LayerWalk, measure_moments
from leanto_edge.compress.source import load_source

DOCUMENTS = [(0, 5, 6, 7), (0, 9, 10), (0, *range(11, 25))]


def test_every_input_has_a_weight_for_each_real_token_and_they_average_one(teacher: Path) -> None:
    source = load_source(teacher)
    weights = token_weights(source, DOCUMENTS, 0)
    assert list(weights) == [group[0] for group in shared_input_groups(source.shape)]
    for parts in weights.values():
        found = torch.cat(parts)
        assert len(found) == sum(map(len, DOCUMENTS))
        assert float(found.mean()) == pytest.approx(1)
        assert float(found.min()) > 0
        assert float(found.max()) > 1.2


def test_weighted_moments_are_weighted_means(teacher: Path) -> None:
    source = load_source(teacher)
    walk = LayerWalk(source.model, DOCUMENTS, source.shape)
    weights = token_weights(source, DOCUMENTS, 0)["model.layers.0.mlp.gate_proj"]
    moments = measure_moments(walk, walk, 0, "mlp.gate_proj", weights)
    x, s = (torch.cat(parts).numpy() for parts in ([read["mlp.gate_proj"] for read in walk.inputs(0, ["mlp.gate_proj"])], weights))
    np.testing.assert_allclose(moments.hessian, (x * s[:, None]).T @ x / len(x), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(moments.cross, moments.hessian, rtol=1e-9, atol=1e-12)
