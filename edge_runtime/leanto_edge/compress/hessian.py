"""Second moments of the inputs of each weight matrix, measured layer by layer on calibration text.

A walk keeps the hidden states in front of one layer. Two walks side by side, through the teacher and through the student whose
earlier layers are compressed, give the Hessian of what a matrix will really read and the target that makes up for it. Sums in float64.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from leanto_edge.artifact.architecture import ModelShape
from leanto_edge.artifact.layout import shared_inputs
from leanto_edge.compress.calibration import BATCH_ROWS, Document, batches, padded_batch

Hessian = NDArray[np.float64]

_HEAD_TOKENS = 512  # whose logits are in memory at once
TARGET_DAMPING = 0.03  # of the mean diagonal of E[x̂ x̂ᵀ]


class LayerWalk:
    """The calibration documents on their way through the decoder layers of a model, one layer at a time."""

    def __init__(self, model: Any, documents: Sequence[Document], shape: ModelShape) -> None:
        self._layers, self._norm, self._head = model.model.layers, model.model.norm, model.lm_head
        self.shape = shape
        # hidden (b, t, h), real positions (b, t) bool, the further arguments of each layer
        self._states: list[tuple[Any, Any, list[dict[str, Any]]]] = []
        with torch.no_grad():
            for batch in batches(documents, BATCH_ROWS):
                self._states.append(_layer_inputs(model, batch))

    def hessians(self, layer: int) -> dict[str, Hessian]:
        """H (n, n) of every input of decoder layer `layer`, by the first module that reads it, like "self_attn.q_proj"."""
        totals = {group[0]: _Mean() for group in shared_inputs(self.shape)}
        for read in self.inputs(layer, list(totals)):
            for name, x in read.items():
                totals[name].add(x, x)
        return {name: total.value() for name, total in totals.items()}

    def inputs(self, layer: int, readers: Sequence[str]) -> Iterator[dict[str, Any]]:
        """What some modules of a decoder layer read, (tokens, n) float64 by module, batch after batch."""
        module = self._layers[layer]
        for hidden, real, arguments in self._states:
            seen: dict[str, Any] = {}
            hooks = [module.get_submodule(name).register_forward_pre_hook(_keeper(seen, name, real)) for name in readers]
            with _removing(hooks), torch.no_grad():
                module(hidden, **arguments[layer])
            yield seen

    def advance(self, layer: int) -> None:
        """Push the hidden states through decoder layer `layer` with the weights it has now."""
        with torch.no_grad():
            for index, (hidden, real, arguments) in enumerate(self._states):
                output = self._layers[layer](hidden, **arguments[layer])
                self._states[index] = (output[0] if isinstance(output, tuple) else output, real, arguments)

    def head(self) -> tuple[Hessian, NDArray[np.float64]]:
        """H (hidden, hidden) of the head's input and the mean probability (vocab,) of each token, once all layers are behind."""
        total, predicted = _Mean(), torch.zeros(self.shape.vocab_size, dtype=torch.float64)
        with torch.no_grad():
            for hidden, real, _ in self._states:
                for inputs in self._norm(hidden)[real].split(_HEAD_TOKENS):
                    total.add(inputs.double(), inputs.double())
                    logits = _soft_capped(self._head(inputs), self.shape.logit_softcap)
                    predicted += torch.softmax(logits, -1).sum(0, dtype=torch.float64)
        return total.value(), predicted.numpy() / total.count


@dataclass(frozen=True, slots=True)
class Moments:
    """Of a teacher's inputs x and the student's x̂ at the same place: `hessian` = E[x̂ x̂ᵀ], `cross` = E[x x̂ᵀ], both (n, n)."""

    hessian: Hessian
    cross: Hessian

    def target(self, w: NDArray[np.float32]) -> NDArray[np.float32]:
        """The weight (m, n) that, reading x̂, comes closest to W x: W E[x x̂ᵀ] E[x̂ x̂ᵀ]⁻¹, damped towards W. To round it under `hessian`
        is to minimise E‖W x - Ŵ x̂‖²."""
        damped = self.hessian + TARGET_DAMPING * np.trace(self.hessian) / len(self.hessian) * np.eye(len(self.hessian))
        return (w + np.linalg.solve(damped, (w @ (self.cross - self.hessian)).T).T).astype(np.float32)


def measure_moments(teacher: LayerWalk, student: LayerWalk, layer: int, reader: str, weights: Sequence[Any] | None = None) -> Moments:
    """Of the input that module `reader` of decoder layer `layer` reads; `weights` (tokens,) of each batch say how much a token counts."""
    square, product = _Mean(), _Mean()
    for at, (read, truth) in enumerate(zip(student.inputs(layer, [reader]), teacher.inputs(layer, [reader]), strict=True)):
        root = 1.0 if weights is None else weights[at].sqrt()[:, None]
        square.add(root * read[reader], root * read[reader])
        product.add(root * truth[reader], root * read[reader])
    return Moments(square.value(), product.value())


class _Mean:
    """A running E[a bᵀ] in float64."""

    def __init__(self) -> None:
        self._total: Any = 0.0
        self.count = 0

    def add(self, a: Any, b: Any) -> None:
        """Take in a and b (tokens, n) float64."""
        self._total = self._total + a.T @ b
        self.count += len(a)

    def value(self) -> Hessian:
        return np.asarray(self._total.numpy()) / self.count


def _keeper(seen: dict[str, Any], name: str, real: Any) -> Callable[[Any, tuple[Any, ...]], None]:
    def hook(_module: Any, inputs: tuple[Any, ...]) -> None:
        seen[name] = inputs[0][real].to(torch.float64)

    return hook


def _soft_capped(logits: Any, cap: float) -> Any:
    return cap * torch.tanh(logits / cap) if cap else logits


def _layer_inputs(model: Any, batch: Sequence[Document]) -> tuple[Any, Any, list[dict[str, Any]]]:
    """What the model hands to its first layer for some documents, and the further arguments of each layer."""
    ids, real = padded_batch(batch)
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
