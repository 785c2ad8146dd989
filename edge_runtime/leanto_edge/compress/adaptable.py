"""A torch model whose linear layers carry low-rank factors that can learn, and can be switched off to ask the base.

Knows the losses; nothing of files, clocks and schedules.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from leanto_edge.compress.examples import Example

Factors = tuple[NDArray[np.float32], NDArray[np.float32]]
_ROWS = 8  # examples at a time where nothing is learnt


class Adaptable:
    """`model`, a frozen causal language model, with factors of the given ranks on its modules: y = W x + L (R x). Takes the model over.

    L (m, k) begins as zero, R (k, n) at random.
    """

    def __init__(self, model: Any, ranks: Mapping[str, int], random: Any) -> None:
        self._model, self._on = model, True
        self._factors: dict[str, tuple[Any, Any]] = {}
        for module, rank in ranks.items():
            linear = model.get_submodule(module)
            rows, cols = linear.weight.shape
            left, right = torch.zeros(rows, rank), torch.randn(rank, cols, generator=random) * cols**-0.5
            self._factors[module] = (left.requires_grad_(), right.requires_grad_())
            linear.register_forward_hook(partial(self._add, module))
        self._wanted: Any = None
        model.get_output_embeddings().register_forward_pre_hook(lambda _, inputs: (inputs[0][self._wanted],))

    def parameters(self) -> list[Any]:
        """What learns."""
        return [part for pair in self._factors.values() for part in pair]

    def factors(self) -> dict[str, Factors]:
        """The factors as they are now, by module."""
        return {module: (_copy(left), _copy(right)) for module, (left, right) in self._factors.items()}

    def loss(self, batch: Sequence[Example]) -> Any:
        """Cross-entropy in nats per predicted token, differentiable."""
        targets = torch.tensor([token for example in batch for token in example.ids[max(example.start, 1) :]])
        return torch.nn.functional.cross_entropy(self._logits(batch), targets)

    def divergence(self, batch: Sequence[Example]) -> Any:
        """KL(base ‖ adapted) in nats per predicted token, differentiable."""
        self._on = False
        with torch.no_grad():
            base = torch.log_softmax(self._logits(batch), -1)
        self._on = True
        return (base.exp() * (base - torch.log_softmax(self._logits(batch), -1))).sum(-1).mean()

    def loss_on(self, examples: Sequence[Example]) -> float:
        """The loss on all of them."""
        return self._mean(self.loss, examples)

    def divergence_on(self, examples: Sequence[Example]) -> float:
        """The divergence on all of them; 0 of none."""
        return self._mean(self.divergence, examples)

    def _add(self, module: str, _: Any, inputs: tuple[Any, ...], y: Any) -> Any:
        left, right = self._factors[module]
        return y + (inputs[0] @ right.T) @ left.T if self._on else y

    def _mean(self, measure: Any, examples: Sequence[Example]) -> float:
        ordered = sorted(examples, key=lambda example: len(example.ids))
        total = tokens = 0.0
        with torch.no_grad():
            for at in range(0, len(ordered), _ROWS):
                batch = ordered[at : at + _ROWS]
                count = sum(len(example.ids) - max(example.start, 1) for example in batch)
                total, tokens = total + count * float(measure(batch)), tokens + count
        return total / max(tokens, 1)

    def _logits(self, batch: Sequence[Example]) -> Any:
        """Logits (predictions, vocab) float32 at the places before the tokens that count: the head sees no other place."""
        ids = torch.zeros(len(batch), max(len(example.ids) for example in batch), dtype=torch.long)
        self._wanted = torch.zeros_like(ids, dtype=torch.bool)
        for row, example in enumerate(batch):
            ids[row, : len(example.ids)] = torch.tensor(example.ids)
            self._wanted[row, max(example.start, 1) - 1 : len(example.ids) - 1] = True
        return self._model(ids, use_cache=False).logits.float()


def _copy(parameter: Any) -> NDArray[np.float32]:
    return np.array(parameter.detach().numpy(), np.float32)
