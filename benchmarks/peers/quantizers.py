"""llama.cpp's quantizers as a measure for ours: a Llama folder as GGUF, quantized by the `llama-quantize` of ik_llama.cpp with an
importance matrix from our calibration text, and turned back into weights by the same program.

Needs the gguf package and a llama-quantize binary; knows nothing of how the outcome is judged.
"""

from __future__ import annotations

import struct
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from numpy.typing import NDArray

from benchmarks.peers import gguf_file
from benchmarks.peers.gguf_file import tensor_name
from leanto_edge.artifact.layout import EMBEDDING, HEAD, matrix_sizes, shared_inputs, vector_sizes
from leanto_edge.compress.calibration import Calibration
from leanto_edge.compress.hessian import LayerWalk
from leanto_edge.compress.source import Source

Floats = NDArray[np.float32]

# Those in use below 5 bits a weight; *_KS, *_KT and IQ2_K are ik_llama.cpp's own.
TYPES = (
    "IQ1_M",
    "IQ2_XXS",
    "IQ2_KS",
    "IQ2_KT",
    "IQ2_S",
    "IQ2_K",
    "Q2_K",
    "IQ3_XXS",
    "IQ3_KT",
    "IQ3_S",
    "Q3_K_M",
    "IQ4_KT",
    "Q4_0",
    "Q4_K_S",
    "Q4_K_M",
)


class QuantizerError(Exception):
    """llama-quantize did not make what was asked for."""


def write_gguf(teacher: Source, path: Path) -> None:
    """The model of a Llama folder in float32."""
    matrices = [(module, _interleaved(teacher, module)) for module in matrix_sizes(teacher.shape)]
    vectors = [(name.removesuffix(".weight"), vector) for name, vector in teacher.vectors().items()]
    eps = float(teacher.config["rms_norm_eps"])
    gguf_file.write(path, teacher.shape, [*matrices, *vectors], rms_norm_eps=eps, kind=gguf.LlamaFileType.ALL_F32)


def write_importance(teacher: Source, text: Calibration, path: Path) -> None:
    """llama.cpp's importance matrix (the binary form: name, calls, sums of the squared inputs) of our calibration documents."""
    walk, shape = LayerWalk(teacher.model, text.documents, teacher.shape), teacher.shape
    tokens = sum(map(len, text.documents))
    squares: dict[str, Floats] = {}
    for layer in range(shape.num_layers):
        hessians = walk.hessians(layer)
        for group in shared_inputs(shape):
            diagonal = np.diag(hessians[group[0]]).astype(np.float32)
            squares |= {tensor_name(f"model.layers.{layer}.{name}"): diagonal for name in group}
        walk.advance(layer)
    squares[tensor_name(EMBEDDING if shape.tie_embeddings else HEAD)] = np.diag(walk.head()[0]).astype(np.float32)
    write_squares(squares, tokens, path)


def write_squares(means: Mapping[str, Floats], tokens: int, path: Path) -> None:
    """Mean squared inputs of each tensor as that file."""
    with path.open("wb") as file:
        file.write(struct.pack("<i", len(means)))
        for name, mean in means.items():
            file.write(struct.pack("<i", len(name)) + name.encode() + struct.pack("<ii", tokens, len(mean)))
            file.write((mean * tokens).tobytes())


def quantize(binary: str, plain: Path, out: Path, kind: str, importance: Path | None) -> int:
    """Quantize `plain` to the type `kind`; the bytes of the file. QuantizerError with the last line that the program wrote."""
    options = ["--imatrix", str(importance)] if importance else []
    done = subprocess.run([binary, *options, str(plain), str(out), kind, "2"], capture_output=True, text=True, timeout=600, check=False)
    if done.returncode or not out.is_file():
        lines = (done.stdout + done.stderr).strip().splitlines()
        raise QuantizerError(f"{kind}: {lines[-1] if lines else done.returncode}")
    return out.stat().st_size


def dequantized(binary: str, quantized: Path, teacher: Source) -> Mapping[str, Floats]:
    """The weights of a quantized file, by Hugging Face tensor name. QuantizerError where they are not those of the teacher in any sense.

    ik_llama.cpp checks rows against blocks only with an importance matrix: 172 columns as Q4_0, in blocks of 32, it writes as garbage.
    """
    plain = quantized.with_suffix(".f32.gguf")
    command = [binary, "--allow-requantize", str(quantized), str(plain), "F32", "2"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    if done.returncode:
        raise QuantizerError(f"{quantized.name} cannot be turned back: {(done.stdout + done.stderr).strip().splitlines()[-1]}")
    tensors: dict[str, Any] = {tensor.name: tensor.data for tensor in gguf.GGUFReader(plain).tensors}
    found = {}
    for module, size in matrix_sizes(teacher.shape).items():
        found[f"{module}.weight"] = _restored(np.array(tensors[tensor_name(module)], np.float32).reshape(size), teacher, module)
    for name in vector_sizes(teacher.shape):
        found[name] = np.array(tensors[tensor_name(name.removesuffix(".weight"))], np.float32)
    plain.unlink()
    for module in matrix_sizes(teacher.shape):
        error = relative_error(teacher.weight(module).numpy(), found[f"{module}.weight"])
        if not error < 1:  # NaN too
            name, columns = tensor_name(module), teacher.weight(module).shape[1]
            raise QuantizerError(f"{quantized.stem}: the program wrote garbage for {name} (relative error {error:.1g}, rows of {columns})")
    return found


def relative_error(weight: Floats, found: Floats) -> float:
    """|found − weight|² / |weight|²; 1 is what zeros would have, so beyond it the rows do not fit the blocks of their type."""
    return float(np.square(found.astype(np.float64) - weight).sum() / np.square(weight.astype(np.float64)).sum())


def _heads(teacher: Source, module: str) -> int:
    """Heads whose halves GGUF interleaves in the rows of `module`; 0 where rows stay."""
    shape = teacher.shape
    return shape.num_heads if module.endswith("q_proj") else shape.num_kv_heads if module.endswith("k_proj") else 0


def _interleaved(teacher: Source, module: str) -> Floats:
    weight: Floats = teacher.weight(module).numpy()
    heads = _heads(teacher, module)
    if not heads:
        return weight
    return np.ascontiguousarray(weight.reshape(heads, 2, -1, weight.shape[1]).swapaxes(1, 2).reshape(weight.shape))


def _restored(weight: Floats, teacher: Source, module: str) -> Floats:
    heads = _heads(teacher, module)
    return np.ascontiguousarray(weight.reshape(heads, -1, 2, weight.shape[1]).swapaxes(1, 2).reshape(weight.shape)) if heads else weight
