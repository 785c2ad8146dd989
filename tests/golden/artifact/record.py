"""Records the golden artifact anew: `PYTHONPATH=tests python tests/golden/artifact/record.py`. Only for a new version of the format."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np

from artifacts import CONFIG, byte_tokenizer, random_tensors, tiny_shape
from leanto_edge import load
from leanto_edge.artifact import write_artifact
from leanto_edge.artifact.layout import EMBEDDING, MatrixSpec, matrix_sizes
from leanto_edge.compress.matrix import decompress_matrix

HERE = Path(__file__).parent
SMALL = {**CONFIG, "hidden_size": 24, "intermediate_size": 44, "num_hidden_layers": 1, "head_dim": 6}
IDS = [0, 80, 81, 82, 200]

# How the matrices of the one layer are stored: every kind and width, with and without rank and rotations.
FORMS = {
    "q_proj": ("trellis", 1, 0, 11, 21),
    "k_proj": ("trellis", 2, 2, 11, 0),
    "v_proj": ("trellis", 3, 0, 11, 22),
    "o_proj": ("int8", 8, 1, 12, 23),
    "gate_proj": ("trellis", 4, 0, 2**62 + 13, 24),
    "up_proj": ("int8", 8, 0, 2**62 + 13, 0),
    "down_proj": ("trellis", 3, 3, 0, 25),
}


def main() -> None:
    """Write artifact/tiny and artifact/expected.json."""
    matrices = {EMBEDDING: MatrixSpec("trellis", 2, *matrix_sizes(tiny_shape(SMALL))[EMBEDDING], 0, 10, 0)}
    for name, (rows, cols) in matrix_sizes(tiny_shape(SMALL)).items():
        if name != EMBEDDING:
            kind, bits, rank, in_seed, out_seed = FORMS[name.rpartition(".")[2]]
            matrices[name] = MatrixSpec(kind, bits, rows, cols, rank, in_seed, out_seed)  # type: ignore[arg-type]
    tensors = random_tensors(matrices, SMALL)
    shutil.rmtree(HERE / "tiny", ignore_errors=True)
    written = write_artifact(HERE / "tiny", SMALL, matrices, tensors, {"tokenizer.json": byte_tokenizer()}, {"name": "tiny"})
    weights = {}
    for name, spec in matrices.items():
        parts = {key.rpartition(".")[2]: tensor for key, tensor in tensors.items() if key.startswith(f"{name}.")}
        weights[name] = (decompress_matrix(spec, parts) @ probe(spec.cols)).round(5).tolist()[:8]
    logits = np.round(load(HERE / "tiny").logits(IDS).astype(float), 4)[:, :12].tolist()
    expected = {"build_hash": written.build_hash, "ids": IDS, "logits": logits, "weights": weights}
    (HERE / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")


def probe(size: int) -> np.ndarray:
    """The vector (size,) that each weight is multiplied with."""
    return np.cos(np.arange(size))


if __name__ == "__main__":
    main()
