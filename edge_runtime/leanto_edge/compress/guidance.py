"""How much each token's error at each matrix matters to the model's output: the mean squared gradient of what the matrix gives.

A token whose outputs move the loss much then counts for more in the Hessian (as in GuidedQuant, arXiv 2505.07004, with one group of
rows). Needs a backward pass through the whole model. Knows nothing of rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from leanto_edge.artifact.layout import shared_input_groups
from leanto_edge.compress.calibration import BATCH_ROWS, Document, batches, padded_batch
from leanto_edge.compress.source import Source

FLOOR = 0.1  # of the mean: no token is left out

Weights = dict[str, list[Any]]


def token_weights(teacher: Source, documents: Sequence[Document], seed: int) -> Weights:
    """For the first module of each shared input, the weights (tokens,) float64, 1 on average, of each batch of documents.

    The loss is the teacher's own: the next token is drawn from its distribution, so that the gradients are those of KL.
    """
    generator = torch.Generator().manual_seed(seed)
    groups = list(shared_input_groups(teacher.shape))
    found: Weights = {group[0]: [] for group in groups}
    for batch in batches(documents, BATCH_ROWS):
        ids, real = padded_batch(batch)
        seen: dict[str, Any] = {}
        hooks = [
            teacher.model.get_submodule(module).register_full_backward_hook(_adder(seen, group[0], real))
            for group in groups
            for module in group
        ]
        try:
            _loss(teacher.model, ids, real, generator).backward()
        finally:
            for hook in hooks:
                hook.remove()
        for name, squares in seen.items():
            found[name].append(squares)
    return {name: _normal(parts) for name, parts in found.items()}


def _loss(model: Any, ids: Any, real: Any, generator: Any) -> Any:
    embedded = model.get_input_embeddings()(ids).detach().requires_grad_()
    logits = model(inputs_embeds=embedded, use_cache=False).logits[real].float()
    drawn = torch.multinomial(torch.softmax(logits.detach(), -1), 1, generator=generator)
    return -torch.log_softmax(logits, -1).gather(1, drawn).sum()


def _adder(seen: dict[str, Any], name: str, real: Any) -> Callable[[Any, Any, tuple[Any, ...]], None]:
    def hook(_module: Any, _inputs: Any, outputs: tuple[Any, ...]) -> None:
        seen[name] = seen.get(name, 0.0) + outputs[0][real].double().square().sum(-1)

    return hook


def _normal(parts: list[Any]) -> list[Any]:
    mean = float(torch.cat(parts).mean()) or 1.0
    return [(part / mean + FLOOR) / (1 + FLOOR) for part in parts]
