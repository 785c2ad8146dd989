"""Hessians H = E[x xᵀ] of the inputs of each weight matrix, measured layer by layer on calibration text.

The walk keeps the hidden states in front of one layer, so that a layer's Hessians are measured behind the already compressed
ones, at the price of two runs of each layer. Sums in float64. Knows nothing of quantization.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from leanto_edge.architecture import ModelShape
from leanto_edge.compress.calibration import Document, batches
from leanto_edge.layout import shared_inputs

Hessian = NDArray[np.float64]

_BATCH_ROWS = 16


class LayerWalk:
    """The calibration documents on their way through the decoder layers of a model, one layer at a time."""

    def __init__(self, model: Any, documents: Sequence[Document], shape: ModelShape) -> None:
        self._layers, self._norm, self._head = model.model.layers, model.model.norm, model.lm_head
        self._shape = shape
        # hidden (b, t, h), real positions (b, t) bool, the further arguments of each layer
        self._states: list[tuple[Any, Any, list[dict[str, Any]]]] = []
        with torch.no_grad():
            for batch in batches(documents, _BATCH_ROWS):
                self._states.append(_layer_inputs(model, batch))

    def hessians(self, layer: int) -> dict[str, Hessian]:
        """H (n, n) of every input of decoder layer `layer`, by the first module that reads it, like "self_attn.q_proj"."""
        module = self._layers[layer]
        sums = {group[0]: _Sum() for group in shared_inputs(self._shape)}
        for hidden, real, arguments in self._states:
            hooks = [module.get_submodule(name).register_forward_pre_hook(_adder(total, real)) for name, total in sums.items()]
            with _removing(hooks), torch.no_grad():
                module(hidden, **arguments[layer])
        return {name: total.mean() for name, total in sums.items()}

    def advance(self, layer: int) -> None:
        """Push the hidden states through decoder layer `layer` with the weights it has now."""
        with torch.no_grad():
            for index, (hidden, real, arguments) in enumerate(self._states):
                output = self._layers[layer](hidden, **arguments[layer])
                self._states[index] = (output[0] if isinstance(output, tuple) else output, real, arguments)

    def head(self) -> tuple[Hessian, NDArray[np.float64]]:
        """H (hidden, hidden) of the head's input and the mean probability (vocab,) of each token, once all layers are behind."""
        total, predicted = _Sum(), torch.zeros(self._shape.vocab_size, dtype=torch.float64)
        with torch.no_grad():
            for hidden, real, _ in self._states:
                inputs = self._norm(hidden)[real]
                total.add(inputs)
                predicted += torch.softmax(_soft_capped(self._head(inputs), self._shape.logit_softcap), -1).sum(0, dtype=torch.float64)
        return total.mean(), predicted.numpy() / total.count


class _Sum:
    """A running E[x xᵀ] in float64."""

    def __init__(self) -> None:
        self._total: Any = 0.0
        self.count = 0

    def add(self, x: Any) -> None:
        """Take in x (tokens, n) float32."""
        wide = x.to(torch.float64)
        self._total = self._total + wide.T @ wide
        self.count += len(x)

    def mean(self) -> Hessian:
        return np.asarray(self._total.numpy()) / self.count


def _adder(total: _Sum, real: Any) -> Callable[[Any, tuple[Any, ...]], None]:
    def hook(_module: Any, inputs: tuple[Any, ...]) -> None:
        total.add(inputs[0][real])

    return hook


def _soft_capped(logits: Any, cap: float) -> Any:
    return cap * torch.tanh(logits / cap) if cap else logits


def _layer_inputs(model: Any, batch: Sequence[Document]) -> tuple[Any, Any, list[dict[str, Any]]]:
    """What the model hands to its first layer for documents padded on the right, and the further arguments of each layer.

    Causal attention keeps the padding out of the documents.
    """
    ids = torch.zeros(len(batch), max(map(len, batch)), dtype=torch.long)
    real = torch.zeros_like(ids, dtype=torch.bool)
    for row, document in enumerate(batch):
        ids[row, : len(document)] = torch.tensor(document)
        real[row, : len(document)] = True
    with _passing_through(model.model.layers) as caught:
        model.model(ids, use_cache=False)
    return caught[0][0], real, [arguments for _, arguments in caught]


@contextmanager
def _passing_through(layers: Sequence[Any]) -> Iterator[list[tuple[Any, dict[str, Any]]]]:
    """Layers that do nothing but note what they are given: (hidden states, further arguments), one after the other."""
    caught: list[tuple[Any, dict[str, Any]]] = []

    def note(hidden_states: Any, **arguments: Any) -> Any:
        caught.append((hidden_states, arguments))
        return hidden_states

    for layer in layers:
        layer.forward = note
    try:
        yield caught
    finally:
        for layer in layers:
            del layer.forward


@contextmanager
def _removing(hooks: Sequence[Any]) -> Iterator[None]:
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
