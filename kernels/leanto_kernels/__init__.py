"""SIMD kernels of the compressed model and its decode step; `reference` holds the NumPy oracle of each.

Arrays in, arrays out: this package knows nothing of files, tokenizers or text. Wrong shapes and values raise ValueError.
"""

from __future__ import annotations

from leanto_kernels._native import (
    Cache,
    Model,
    attention,
    decode_trellis,
    encode_trellis,
    gated_mlp,
    gemv_dense,
    gemv_int8,
    gemv_transposed,
    gemv_trellis,
    isa,
    quantize_activations,
    rms_norm,
    rope,
    rotate,
    rotate_transpose,
    sample,
    set_isa,
    softcap,
)
from leanto_kernels.codebook import tables, unit

__all__ = [
    "Cache",
    "Model",
    "attention",
    "decode_trellis",
    "encode_trellis",
    "gated_mlp",
    "gemv_dense",
    "gemv_int8",
    "gemv_transposed",
    "gemv_trellis",
    "isa",
    "quantize_activations",
    "rms_norm",
    "rope",
    "rotate",
    "rotate_transpose",
    "sample",
    "set_isa",
    "softcap",
    "tables",
    "unit",
]
