from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from architectures import tiny_config, write_teacher
from leanto_edge.compress.hessian import LayerWalk
from leanto_edge.compress.source import Source, load_source

DOCUMENTS = [(0, 5, 6, 7), (0, 9, 10), (0, *range(11, 25))]  # the last is longer than any window


def inputs_of(source: Source, module: str) -> np.ndarray:
    """What the module reads (tokens, n), each document run alone through the whole model."""
    seen: list[np.ndarray] = []
    hook = source.model.get_submodule(module).register_forward_pre_hook(lambda _, x: seen.append(x[0][0].numpy()))
    with torch.no_grad():
        for document in DOCUMENTS:
            source.model(torch.tensor([document]), use_cache=False)
    hook.remove()
    return np.concatenate(seen)


def check_walk(source: Source) -> None:
    walk = LayerWalk(source.model, DOCUMENTS, source.shape)
    for layer in range(source.shape.num_layers):
        for name, h in walk.hessians(layer).items():
            x = inputs_of(source, f"model.layers.{layer}.{name}").astype(np.float64)
            np.testing.assert_allclose(h, x.T @ x / len(x), rtol=1e-3, atol=1e-5 * np.abs(h).max())
        walk.advance(layer)
    x = inputs_of(source, "lm_head").astype(np.float64)
    h, predicted = walk.head()
    np.testing.assert_allclose(h, x.T @ x / len(x), rtol=1e-3, atol=1e-5 * np.abs(h).max())
    with torch.no_grad():
        logits = [source.model(torch.tensor([document])).logits[0] for document in DOCUMENTS]
    np.testing.assert_allclose(predicted, torch.cat(logits).softmax(-1).mean(0), rtol=1e-3, atol=1e-8)


def test_the_walk_measures_what_the_whole_model_reads(teacher: Path) -> None:
    check_walk(load_source(teacher))


@pytest.mark.parametrize("name", ["gemma2", "gemma3", "phi3", "smollm3"])
def test_the_walk_gives_every_kind_of_layer_its_own_arguments(name: str, tmp_path: Path) -> None:
    write_teacher(tmp_path, tiny_config(name))
    check_walk(load_source(tmp_path))


def test_a_layer_is_measured_behind_what_the_earlier_ones_became(teacher: Path) -> None:
    source = load_source(teacher)
    walk = LayerWalk(source.model, DOCUMENTS, source.shape)
    walk.hessians(0)
    source.model.model.layers[0].mlp.down_proj.weight.mul_(0.5)
    walk.advance(0)
    x = inputs_of(source, "model.layers.1.self_attn.q_proj").astype(np.float64)
    h = walk.hessians(1)["self_attn.q_proj"]
    np.testing.assert_allclose(h, x.T @ x / len(x), rtol=1e-3, atol=1e-5 * np.abs(h).max())
