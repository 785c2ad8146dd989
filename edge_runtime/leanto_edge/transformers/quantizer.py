"""The quantizer named "leanto" that `import leanto_edge.transformers` registers, and `save_artifact`, its way back.

It checks the files as leanto_edge.load does and puts modules in place that hold the
stored tensors. Knows nothing of the engine: products are those of layers.py, on any device.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from packaging.version import Version
from transformers.quantizers.auto import register_quantization_config, register_quantizer
from transformers.quantizers.base import HfQuantizer
from transformers.utils.quantization_config import QuantizationConfigMixin

from leanto_edge.artifact import Artifact, read_matrices, read_tensors, write_artifact
from leanto_edge.artifact.architecture import ModelShape
from leanto_edge.artifact.layout import BLOCK, EMBEDDING, FORMAT, HEAD, MatrixSpec
from leanto_edge.artifact.manifest import MANIFEST, OPTIONAL_FILES, TOKENIZER, read_manifest, verify_files
from leanto_edge.artifact.tensor_file import TensorFile
from leanto_edge.errors import ArtifactError, DependencyError, UnsupportedModelError
from leanto_edge.transformers.layers import CompressedEmbedding, CompressedLinear, TiedHead

OLDEST = "5.0"


def check_version(found: str) -> None:
    """Raise DependencyError for a transformers whose quantizers have another interface."""
    if Version(found) < Version(OLDEST):
        raise DependencyError(f"transformers {found} is too old to load artifacts; install transformers>={OLDEST}")


check_version(transformers.__version__)


@register_quantization_config("leanto")
class LeantoConfig(QuantizationConfigMixin):  # type: ignore[misc]
    """`quantization_config` of an artifact's config.json. Keys that the format does not name are dropped."""

    def __init__(self, matrices: Mapping[str, Any], format: int = FORMAT, block: int = BLOCK, **_others: Any) -> None:
        self.quant_method: Any = "leanto"
        self.format, self.block, self.matrices = format, block, dict(matrices)


@register_quantizer("leanto")
class LeantoHfQuantizer(HfQuantizer):  # type: ignore[misc]
    """Puts the modules of leanto_edge.transformers.layers in place of linear layers and the embedding; dense matrices stay as they are."""

    requires_calibration = True  # a model that is not compressed yet is refused: `leanto compress` does that

    def validate_environment(self, *_arguments: Any, device_map: Any = None, **_others: Any) -> None:
        """Raise DependencyError where weights would have to be left on disk; any device of torch is fine."""
        places = device_map.values() if isinstance(device_map, Mapping) else [device_map]
        if "disk" in map(str, places):
            raise DependencyError("a compressed model cannot be left on disk; give a device_map without 'disk'")

    def _process_model_before_weight_loading(self, model: Any, checkpoint_files: Sequence[str] | None = None, **_others: Any) -> None:
        config = {**model.config.to_dict(), "quantization_config": self.quantization_config.to_dict()}
        matrices, dtypes = _checked(config, checkpoint_files)
        for name, spec in matrices.items():
            place = _place(model, name)
            if place is not None and spec.kind != "dense":
                with torch.device("meta"):
                    model.set_submodule(place, _module(model.get_submodule(place), spec, _of(dtypes, name)))
        embedding = model.get_input_embeddings()
        if HEAD not in matrices and isinstance(embedding, CompressedEmbedding):
            _tie(model, embedding)

    def is_serializable(self) -> Any:
        """save_pretrained writes the tensors as they were read."""
        return True

    @property
    def is_trainable(self) -> Any:
        """Codes do not learn."""
        return False

    def _dequantize(self, model: Any, dtype: Any = None) -> None:
        raise UnsupportedModelError(model.config.name_or_path, "use leanto_edge.compress.dequantized_model(path) for the dense model")


def save_artifact(model: Any, tokenizer: Any, out: str | Path, *, files: Mapping[str, bytes] | None = None, **metadata: Any) -> Artifact:
    """Write a model that was loaded from an artifact to a new one at `out`, which leanto_edge.load and from_pretrained read.

    (`save_pretrained` writes no leanto.json, without which leanto_edge.load refuses a compressed model.) `tokenizer`: a fast tokenizer
    of transformers; `files`: other small files that belong to the model, such as calls.json; `metadata`: further fields of leanto.json.
    Raises ArtifactError.
    """
    config = model.config.to_dict()
    block = config.pop("quantization_config", None)
    if not isinstance(block, Mapping) or block.get("quant_method") != "leanto":
        raise ArtifactError(out, "cannot be written from a model that was not loaded from an artifact; run `leanto compress`")
    matrices = {name: MatrixSpec.from_json(entry) for name, entry in block["matrices"].items()}
    tensors = {name: _as_array(tensor) for name, tensor in model.state_dict().items()}
    if HEAD not in matrices:
        tensors.pop(f"{HEAD}.weight", None)  # of a dense tied one
    return write_artifact(out, config, matrices, tensors, {**_tokenizer_files(tokenizer, out), **(files or {})}, metadata)


def _checked(config: Mapping[str, Any], checkpoint_files: Sequence[str] | None) -> tuple[dict[str, MatrixSpec], dict[str, str]]:
    """The matrices and the type of each stored tensor, after the files were found to be what the format wants."""
    files = [Path(file) for file in checkpoint_files or ()]
    folder = files[0].parent if files else Path(str(config.get("_name_or_path", "")))
    if len(files) != 1 or files[0].suffix != ".safetensors":
        raise UnsupportedModelError(folder, "is not one .safetensors file; save it again with a larger max_shard_size")
    if (folder / MANIFEST).exists():
        verify_files(folder, read_manifest(folder))
    shape = ModelShape.from_config(folder, config)
    matrices, weights = read_matrices(folder, shape, config), TensorFile(files[0])
    read_tensors(weights, shape, matrices)
    return matrices, weights.dtypes


def _place(model: Any, name: str) -> str | None:
    """Where the module `name` of the artifact is in `model`, which may lack the head, or be the part without it."""
    for place in (name, name.removeprefix(f"{model.base_model_prefix}.")):
        parent, _, child = place.rpartition(".")
        try:
            if hasattr(model.get_submodule(parent), child):
                return place
        except AttributeError:
            continue
    return None


def _of(dtypes: Mapping[str, str], module: str) -> dict[str, str]:
    return {name.removeprefix(f"{module}."): dtype for name, dtype in dtypes.items() if name.startswith(f"{module}.")}


def _module(old: Any, spec: MatrixSpec, dtypes: Mapping[str, str]) -> Any:
    if isinstance(old, torch.nn.Embedding):
        return CompressedEmbedding(spec, dtypes, old.padding_idx, float(getattr(old, "scalar_embed_scale", 1.0)))
    return CompressedLinear(spec, dtypes, old.bias)


def _tie(model: Any, embedding: CompressedEmbedding) -> None:
    """The head reads the embedding's matrix, and transformers is told that there is nothing left to tie."""
    model._tied_weights_keys, model.all_tied_weights_keys = None, {}
    if model.get_output_embeddings() is not None and _place(model, EMBEDDING) == EMBEDDING:
        model.set_output_embeddings(TiedHead(embedding))


def _as_array(tensor: Any) -> Any:
    tensor = tensor.detach().cpu()
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()  # NumPy has no bfloat16


def _tokenizer_files(tokenizer: Any, out: str | Path) -> dict[str, bytes]:
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        files = {name: Path(folder, name) for name in (TOKENIZER, *OPTIONAL_FILES)}
        if not files[TOKENIZER].exists():
            raise ArtifactError(out, "needs a fast tokenizer, one that saves a tokenizer.json")
        return {name: file.read_bytes() for name, file in files.items() if file.exists()}
