"""The model with its compressed weights, in the memory that those take: a matrix is made float32 when it runs, and dropped after.

What is not compressed yet are the teacher's own weights, mapped from its files, so that beside the teacher a student costs nothing.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from types import MethodType
from typing import Any

import torch
from numpy.typing import NDArray
from torch.nn.functional import linear

from leanto_edge.artifact.layout import EMBEDDING, HEAD
from leanto_edge.artifact.tensor_file import Array
from leanto_edge.compress.matrix import CompressedMatrix, decompress_matrix
from leanto_edge.compress.source import Source


class Student:
    """A twin of `teacher` whose weights can be exchanged. `model`: its transformers module, like the teacher's."""

    def __init__(self, teacher: Source) -> None:
        self._teacher = teacher.model
        mapped = [*teacher.model.parameters(), *teacher.model.buffers()]
        self.model: Any = copy.deepcopy(teacher.model, {id(tensor): tensor for tensor in mapped})

    def hold(self, module: str, weight: NDArray[Any]) -> None:
        """Compute with `weight` (m, n) float32, kept whole, wherever the teacher's serves: a tied embedding is the head too."""
        parameter, original = _frozen(torch.from_numpy(weight)), self._teacher.get_submodule(module).weight
        for name, other in self._teacher.named_modules():
            if getattr(other, "weight", None) is original:
                mine = self.model.get_submodule(name)
                vars(mine).pop("forward", None)
                mine.weight = parameter

    def release(self, module: str) -> None:
        """Compute with the teacher's weight again."""
        original = self._teacher.get_submodule(module)
        for name, other in self._teacher.named_modules():
            if getattr(other, "weight", None) is original.weight:
                mine = self.model.get_submodule(name)
                mine.weight = original.weight
                if "forward" in vars(other):
                    mine.forward = MethodType(other.forward.__func__, mine)

    def take(self, module: str, matrix: CompressedMatrix) -> None:
        """Compute with a compressed matrix: a table is decompressed at once, another matrix each time that it runs."""
        if module in (EMBEDDING, HEAD):
            self.hold(module, decompress_matrix(matrix.spec, matrix.tensors))
            return

        def forward(self: Any, inputs: Any) -> Any:
            return linear(inputs, torch.from_numpy(decompress_matrix(matrix.spec, matrix.tensors)), self.bias)

        self.release(module)
        mine = self.model.get_submodule(module)
        mine.forward = MethodType(forward, mine)

    def take_vectors(self, vectors: Mapping[str, Array]) -> None:
        """Compute with these norms and biases, by tensor name."""
        for name, vector in vectors.items():
            module, _, attribute = name.rpartition(".")
            setattr(self.model.get_submodule(module), attribute, _frozen(torch.from_numpy(vector)))


def _frozen(tensor: Any) -> Any:
    return torch.nn.Parameter(tensor, requires_grad=False)
