"""Which bits and rank each matrix gets: the least expected KL divergence from the teacher within a number of bytes.

The divergence that a matrix causes grows in proportion to its squared error, and those of all matrices add up (small errors); so one
measurement for each matrix and the error expected of each candidate are enough. Pure arithmetic: knows nothing of models.
"""

from __future__ import annotations

import heapq
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from leanto_edge.artifact.layout import MatrixSpec, TensorSpec
from leanto_edge.artifact.tensor_file import LINE

_ITEM_BYTES = {"F32": 4, "F16": 2, "I8": 1, "U8": 1}


@dataclass(frozen=True, slots=True)
class Candidate:
    """One way to store a matrix. `size`: bytes in the weight file; `kl`: what it is expected to add, in nats per token."""

    spec: MatrixSpec
    size: int
    kl: float


def allocate(candidates: Mapping[str, Sequence[Candidate]], budget: int) -> dict[str, Candidate]:
    """One candidate for each matrix, of at most `budget` bytes in all, by greedy steps along each matrix's convex hull of (size, kl).

    What the last step leaves over goes to the best improvements that still fit. ValueError, naming the least, if nothing fits.
    """
    hulls = {module: lower_hull(options) for module, options in candidates.items()}
    chosen = dict.fromkeys(hulls, 0)
    spent = sum(hull[0].size for hull in hulls.values())
    if spent > budget:
        raise ValueError(f"{budget} bytes are too few: the smallest that this model can take is {spent}")
    steps = [(-_gain(hull[0], hull[1]), module) for module, hull in hulls.items() if len(hull) > 1]
    heapq.heapify(steps)
    while steps:
        _, module = heapq.heappop(steps)
        hull, at = hulls[module], chosen[module]
        cost = hull[at + 1].size - hull[at].size
        if spent + cost > budget:
            continue  # no further step of this matrix; smaller ones of others may fit
        spent += cost
        chosen[module] = at + 1
        if at + 2 < len(hull):
            heapq.heappush(steps, (-_gain(hull[at + 1], hull[at + 2]), module))
    found = {module: hulls[module][at] for module, at in chosen.items()}
    return _fill(found, candidates, budget - spent)


def lower_hull(options: Sequence[Candidate]) -> list[Candidate]:
    """The candidates that some price per byte makes the best, by growing size and falling kl."""
    hull: list[Candidate] = []
    for option in sorted(options, key=lambda option: (option.size, option.kl)):
        if hull and option.kl >= hull[-1].kl:
            continue
        while len(hull) > 1 and _gain(hull[-2], hull[-1]) <= _gain(hull[-1], option):
            hull.pop()
        hull.append(option)
    return hull


def stored_size(module: str, spec: MatrixSpec, file_size: int) -> int:
    """Bytes of a matrix in a safetensors file of at most `file_size` bytes, its entries in the header included; float16 scales.

    An upper bound, a few bytes above: every offset is counted with as many digits as the largest.
    """
    return sum(_tensor_size(name, tensor, file_size) for name, tensor in spec.tensors(module).items())


def vectors_size(vectors: Mapping[str, int], file_size: int) -> int:
    """Bytes of the norms and biases (float32), and of what a safetensors file has besides its entries."""
    lengths = [_tensor_size(name, TensorSpec(frozenset({"F32"}), (size,)), file_size) for name, size in vectors.items()]
    return sum(lengths) + len('{"__metadata__":{"format":"pt"}}') + 8 + LINE


def _tensor_size(name: str, tensor: TensorSpec, file_size: int) -> int:
    kind = "F16" if "F16" in tensor.dtypes else next(iter(tensor.dtypes))
    entry = {name: {"dtype": kind, "shape": list(tensor.shape), "data_offsets": [file_size, file_size]}}
    return int(np.prod(tensor.shape)) * _ITEM_BYTES[kind] + len(json.dumps(entry, separators=(",", ":")))


def _fill(found: dict[str, Candidate], candidates: Mapping[str, Sequence[Candidate]], left: int) -> dict[str, Candidate]:
    """Take the steps of best gain, hull or not, that still fit into `left` bytes."""
    found = dict(found)
    while True:
        better = [
            (_gain(found[module], option), module, option)
            for module, options in candidates.items()
            for option in options
            if option.kl < found[module].kl and 0 < option.size - found[module].size <= left
        ]
        if not better:
            return found
        _, module, option = max(better, key=lambda step: step[0])
        left -= option.size - found[module].size
        found[module] = option


def _gain(one: Candidate, other: Candidate) -> float:
    """How much kl each further byte takes away."""
    return (one.kl - other.kl) / (other.size - one.size)
