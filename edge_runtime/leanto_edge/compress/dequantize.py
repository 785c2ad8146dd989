"""The compressed model as an ordinary torch model: every weight replaced by R_outᵀ (Q + L R) R_in, in float32.

For the report, for tests of the engine, and for whoever wants to look. Knows nothing of how an artifact was made.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from leanto_edge.artifact import read_artifact
from leanto_edge.artifact.layout import MatrixSpec, vector_sizes
from leanto_edge.compress.matrix import decompress_matrix


def dequantized_model(path: str | Path) -> Any:
    """A transformers causal language model (float32, evaluation mode) with the weights of the artifact at `path`. Raises ArtifactError."""
    artifact = read_artifact(path)
    config = {key: value for key, value in artifact.config.items() if key != "quantization_config"}
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**config), dtype=torch.float32).eval()
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for module, entry in artifact.matrices.items():
            spec = MatrixSpec.from_json(entry)
            tensors = {name: artifact.tensors[f"{module}.{name}"] for name in _suffixes(spec)}
            parameters[f"{module}.weight"].copy_(torch.from_numpy(decompress_matrix(spec, tensors)))
        for name in vector_sizes(artifact.shape):
            parameters[name].copy_(torch.from_numpy(np.array(artifact.tensors[name], np.float32)))
    for parameter in parameters.values():
        parameter.requires_grad_(False)
    return model


def _suffixes(spec: MatrixSpec) -> list[str]:
    return [name.rpartition(".")[2] for name in spec.tensors("matrix")]
