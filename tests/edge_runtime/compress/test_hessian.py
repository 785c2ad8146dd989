from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from leanto_edge.compress.hessian import LayerWalk
from leanto_edge.compress.source import Source, load_source

DOCUMENTS = [(0, 5, 6, 7), (0, 9, 10), (0, 11, 12, 13, 14, 15)]


def inputs_of(source: Source, module: str) -> np.ndarray:
    """What the module reads (tokens, n), each document run alone through the whole model."""
    seen: list[np.ndarray] = []
    hook = source.model.get_submodule(module).register_forward_pre_hook(lambda _, x: seen.append(x[0][0].numpy()))
    with torch.no_grad():
        for document in DOCUMENTS:
            source.model(torch.tensor([document]), use_cache=False)
    hook.remove()
    return np.concatenate(seen)


def test_the_walk_measures_what_the_whole_model_reads(teacher: Path) -> None:
    source = load_source(teacher)
    walk = LayerWalk(source.model, DOCUMENTS, source.shape)
    for layer in range(2):
        for name, h in walk.hessians(layer).items():
            x = inputs_of(source, f"model.layers.{layer}.{name}").astype(np.float64)
            np.testing.assert_allclose(h, x.T @ x / len(x), rtol=1e-3, atol=1e-5 * np.abs(h).max())
        walk.advance(layer)
    x = inputs_of(source, "lm_head").astype(np.float64)
    h, predicted = walk.head()
    np.testing.assert_allclose(h, x.T @ x / len(x), rtol=1e-3, atol=1e-5)
    logits = x @ source.weight("lm_head").numpy().T
    np.testing.assert_allclose(predicted, np.mean(np.exp(logits) / np.exp(logits).sum(1, keepdims=True), axis=0), rtol=1e-3)


def test_a_layer_is_measured_behind_what_the_earlier_ones_became(teacher: Path) -> None:
    source = load_source(teacher)
    walk = LayerWalk(source.model, DOCUMENTS, source.shape)
    walk.hessians(0)
    source.model.model.layers[0].mlp.down_proj.weight.mul_(0.5)
    walk.advance(0)
    x = inputs_of(source, "model.layers.1.self_attn.q_proj").astype(np.float64)
    h = walk.hessians(1)["self_attn.q_proj"]
    np.testing.assert_allclose(h, x.T @ x / len(x), rtol=1e-3, atol=1e-5 * np.abs(h).max())
