"""Batches without padding to speak of: several texts share a row of fixed length, each in its own segment.

One shape per kind of text, so the training step is compiled once for each. Knows nothing of models.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from corpus import Example
from torch import Tensor

POOL = 1200  # texts packed together; more of them fill the rows better


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows of tokens, and the `keep` places where a prediction counts.

    ids, positions, segments: (rows, tokens) int64. keep: (k,) int64, indices into the flattened rows; labels: (k,) int64, the token
    after each; weights: (k,) float32, zero where fewer than k count.
    """

    ids: Tensor
    positions: Tensor
    segments: Tensor
    keep: Tensor
    labels: Tensor
    weights: Tensor


def batches(
    examples: Iterator[Example], rows: int, tokens: int, predictions: int, random: np.random.Generator, pool: int = POOL
) -> Iterator[Batch]:
    """Endless batches (rows, tokens) with at most `predictions` counted places; the heaviest are kept. Longer texts are left out."""
    waiting: list[list[Example]] = []
    while True:
        while len(waiting) < 4 * rows:
            packed = pack([example for example in islice(examples, pool) if len(example.ids) <= tokens], tokens)
            waiting += [packed[i] for i in random.permutation(len(packed))]
        yield collate(waiting[:rows], rows, tokens, predictions, random)
        del waiting[:rows]


def pack(examples: list[Example], tokens: int) -> list[list[Example]]:
    """Best fit, longest first."""
    free: list[list[list[Example]]] = [[] for _ in range(tokens + 1)]  # rows by how many tokens still fit
    for example in sorted(examples, key=lambda e: -len(e.ids)):
        size = len(example.ids)
        room = next((r for r in range(size, tokens + 1) if free[r]), tokens)
        row = free[room].pop() if free[room] else []
        row.append(example)
        free[room - size].append(row)
    return [row for rows in free for row in rows]


def collate(packed: list[list[Example]], rows: int, tokens: int, predictions: int, random: np.random.Generator) -> Batch:
    """Tensors of the packed rows."""
    ids, positions, segments, labels = (np.zeros((rows, tokens), np.int64) for _ in range(4))
    weights = np.zeros((rows, tokens), np.float32)
    for r, row in enumerate(packed):
        at = 0
        for number, example in enumerate(row, start=1):
            end = at + len(example.ids)
            ids[r, at:end], positions[r, at:end], segments[r, at:end] = example.ids, np.arange(end - at), number
            labels[r, at : end - 1], weights[r, at : end - 1] = example.labels[1:], example.weights[1:]
            at = end
    flat = weights.ravel()
    keep = np.sort(np.argsort(flat + 1e-3 * random.random(flat.size, np.float32))[-predictions:])
    tensors = (ids, positions, segments, keep, labels.ravel()[keep], flat[keep])
    return Batch(*(torch.from_numpy(array) for array in tensors))
