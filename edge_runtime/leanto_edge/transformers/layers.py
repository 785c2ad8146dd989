"""Torch modules that hold a matrix as the artifact stores it: linear layer, embedding, and a head that shares the embedding.

The stored tensors are buffers under their own names and keep their types. On a GPU that gpu.py can use they are multiplied as
they are; elsewhere the dense weight is made by the kernels when it is first needed, and kept in the type of the model. Knows nothing of
transformers and of files.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from leanto_edge.artifact.layout import MatrixSpec
from leanto_edge.artifact.weight import dense_weight

_STORED: Mapping[str, torch.dtype] = {"U8": torch.uint8, "I8": torch.int8, "F16": torch.float16, "F32": torch.float32}


@functools.cache
def gpu_backend(device: Any) -> Any:
    """The module gpu where it can be used on `device`, else None."""
    if device.type != "cuda" or torch.version.cuda is None or find_spec("triton") is None:
        return None
    from leanto_edge.transformers import gpu

    return gpu if gpu.usable(device) else None


class _Matrix(nn.Module):  # type: ignore[misc]
    """The tensors of one matrix. `dtypes`: the safetensors type of each, by suffix."""

    like: Any

    def __init__(self, spec: MatrixSpec, dtypes: Mapping[str, str]) -> None:
        super().__init__()
        self.spec = spec
        self._suffixes = tuple(name.removeprefix("matrix.") for name in spec.tensors("matrix"))
        for suffix in self._suffixes:
            shape = spec.tensors("matrix")[f"matrix.{suffix}"].shape
            self.register_buffer(suffix, torch.empty(shape, dtype=_STORED[dtypes[suffix]]))
        self.register_buffer("like", torch.empty(0), persistent=False)  # takes on the type of the model and its device
        self._weight: Any = None
        self._packed: Any = None
        self.register_load_state_dict_post_hook(lambda module, _keys: module.forget())

    @property
    def weight(self) -> Any:
        """The dense weight (rows, cols) in the type and on the device of the model; not a parameter."""
        if self._weight is None:
            with torch.inference_mode(False), torch.no_grad():
                stored = {suffix: getattr(self, suffix).cpu().numpy() for suffix in self._suffixes}
                self._weight = torch.from_numpy(dense_weight(self.spec, stored)).to(self.like)
        return self._weight

    def packed(self, x: Any) -> Any:
        """The gpu.PackedMatrix for an input x, or None where it takes the dense weight: elsewhere, and if x has a gradient."""
        gpu = gpu_backend(x.device)
        if gpu is None or (x.requires_grad and torch.is_grad_enabled()):
            return None
        if self._packed is None:
            self._packed = gpu.PackedMatrix(self.spec, {suffix: getattr(self, suffix) for suffix in self._suffixes})
        return self._packed

    def times(self, x: Any, bias: Any = None) -> Any:
        """x (..., cols) → W x + bias (..., rows)."""
        packed = self.packed(x)
        if packed is None:
            return functional.linear(x, self.weight, bias)
        y = packed.linear(x)
        return y if bias is None else y + bias

    def forget(self) -> None:
        """Drop what was made of the stored tensors; the next use makes it anew."""
        self._weight = self._packed = None

    def _apply(self, fn: Callable[[Any], Any], recurse: bool = True) -> Any:
        """As torch does it, but what is stored changes only its device: a scale in another type is another scale."""
        stored = {suffix: getattr(self, suffix) for suffix in self._suffixes}
        super()._apply(fn, recurse)
        for suffix, tensor in stored.items():
            if not tensor.is_meta:
                self._buffers[suffix] = tensor.to(getattr(self, suffix).device)
        self.forget()
        return self


class CompressedLinear(_Matrix):
    """y = W x + bias."""

    bias: Any

    def __init__(self, spec: MatrixSpec, dtypes: Mapping[str, str], bias: nn.Parameter | None) -> None:
        super().__init__(spec, dtypes)
        self.in_features, self.out_features = spec.cols, spec.rows
        self.register_parameter("bias", bias)

    def forward(self, x: Any) -> Any:
        """x (..., cols) → (..., rows)."""
        return self.times(x, self.bias)


class CompressedEmbedding(_Matrix):
    """Row i of the weight, times `scale` (rounded to the type of the model, as Gemma does)."""

    def __init__(self, spec: MatrixSpec, dtypes: Mapping[str, str], padding_idx: int | None, scale: float) -> None:
        super().__init__(spec, dtypes)
        self.num_embeddings, self.embedding_dim, self.padding_idx, self.scale = spec.rows, spec.cols, padding_idx, scale

    def forward(self, ids: Any) -> Any:
        """ids (...) → (..., cols)."""
        packed = self.packed(ids)
        rows = functional.embedding(ids, self.weight) if packed is None else packed.embedding(ids, self.like.dtype)
        return rows if self.scale == 1 else rows * torch.tensor(self.scale, dtype=rows.dtype, device=rows.device)


class TiedHead(nn.Module):  # type: ignore[misc]
    """A head without tensors of its own: its weight is that of the embedding."""

    def __init__(self, embedding: CompressedEmbedding) -> None:
        super().__init__()
        self.in_features, self.out_features, self.bias = embedding.embedding_dim, embedding.num_embeddings, None
        self._embedding = [embedding]  # in a list it is no submodule, and its tensors are stored once

    @property
    def weight(self) -> Any:
        """The embedding's."""
        return self._embedding[0].weight

    def forward(self, x: Any) -> Any:
        """x (..., cols) → (..., rows)."""
        return self._embedding[0].times(x)
