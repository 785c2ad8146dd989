"""The model to be compressed, as a torch module that computes in float32, with the folder it comes from.

Finds the folder (local, or downloaded from the hub), refuses architectures that the engine does not run, loads. No arithmetic.
Weights stay mapped from the files as they are stored there; those of 16 bits are made float32, matrix by matrix, when they run.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import MethodType
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch.nn.functional import linear
from transformers import AutoModelForCausalLM
from transformers.utils import logging

from leanto_edge.artifact.architecture import ModelShape
from leanto_edge.artifact.layout import EMBEDDING, HEAD, matrix_sizes, vector_sizes
from leanto_edge.artifact.manifest import CONFIG, OPTIONAL_FILES, TOKENIZER, TOKENIZER_CONFIG, read_json
from leanto_edge.errors import ArtifactError, UnsupportedModelError
from leanto_edge.tokenizer import Tokenizer, begins_with_bos

_PATTERNS = ("*.json", "*.safetensors")


@dataclass(frozen=True, slots=True)
class Source:
    """A loaded teacher. `model`: a transformers causal language model that computes in float32, in evaluation mode."""

    path: Path
    config: dict[str, Any]
    shape: ModelShape
    model: Any
    tokenizer: Tokenizer
    sha256: str

    def weight(self, module: str) -> Any:
        """The weight of a module, a float32 torch tensor (m, n)."""
        return self.model.get_submodule(module).weight.float()

    def vectors(self) -> dict[str, Any]:
        """The norms and biases by tensor name, as NumPy arrays (n,) float32."""
        state = self.model.state_dict()
        return {name: state[name].numpy().copy() for name in vector_sizes(self.shape)}

    def small_files(self) -> dict[str, bytes]:
        """The tokenizer and other small files that belong to the artifact, their JSON without the white space."""
        files = [self.path / name for name in (TOKENIZER, *OPTIONAL_FILES)]
        return {file.name: _compact(file) for file in files if file.is_file()}


def find_source(source: str | Path) -> Path:
    """The local folder of `source`: itself, or a hub id that is downloaded. Raises ArtifactError."""
    path = Path(source)
    if path.is_dir():
        return path
    if path.is_absolute() or str(source).count("/") != 1 or str(source).startswith("."):
        raise ArtifactError(path, "is not a model folder; check the path, or give a hub id like owner/name")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        return Path(snapshot_download(str(source), allow_patterns=list(_PATTERNS)))
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ArtifactError(path, f"is neither a folder nor a model that the hub would give ({reason})") from None


def load_source(path: Path) -> Source:
    """Load the model in `path`. Raises ArtifactError, UnsupportedModelError."""
    config = _read_config(path)
    shape = ModelShape.from_config(path, config)
    if config.get("quantization_config"):
        raise UnsupportedModelError(path, "is quantized already; compress the original model")
    settings = read_json(path / TOKENIZER_CONFIG) if (path / TOKENIZER_CONFIG).is_file() else {}
    tokenizer = Tokenizer(path / TOKENIZER, shape.bos_id if begins_with_bos(settings) else None)
    model = _load_model(path)
    for parameter in model.parameters():
        parameter.requires_grad_(False)
        if not torch.isfinite(parameter).all():
            raise ArtifactError(path, "holds a weight that is not finite; the model is broken")
    _compute_in_float32(model, matrix_sizes(shape).keys() - {EMBEDDING, HEAD})
    return Source(path, config, shape, model, tokenizer, _hash(path))


def _load_model(path: Path) -> Any:
    """As transformers loads it, but not silently with random weights where the files lack some."""
    options = {"dtype": _stored_type(path), "local_files_only": True, "use_safetensors": True, "output_loading_info": True}
    bar = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(path, **options)
        model, loading = loaded
    except Exception as error:  # transformers and what it stands on raise many kinds for files that do not fit
        raise ArtifactError(path, f"cannot be loaded ({str(error).splitlines()[0]}); check that the folder is complete") from None
    finally:
        if bar:
            logging.enable_progress_bar()
    lost = sorted(map(str, [*loading["missing_keys"], *loading["mismatched_keys"]]))
    if lost:
        raise ArtifactError(path, f"lacks weights that the config asks for, like {lost[0]}; check that the folder is complete")
    return model.eval()


def _stored_type(path: Path) -> Any:
    """The one type of all weights in the files, which transformers then only maps; float32 where they differ or cannot be read."""
    found = set()
    try:
        for file in path.glob("*.safetensors"):
            with safe_open(file, framework="numpy") as tensors:
                found |= {tensors.get_slice(name).get_dtype() for name in tensors.keys()}  # noqa: SIM118 (not a mapping)
    except (OSError, SafetensorError):
        return torch.float32
    return {("F16",): torch.float16, ("BF16",): torch.bfloat16}.get(tuple(found), torch.float32)


def _compute_in_float32(model: Any, streamed: Iterable[str]) -> None:
    """Make the weights of the modules `streamed` float32 only when they run, all others now."""
    kept = [model.get_submodule(name) for name in streamed]
    small = {id(parameter): parameter for parameter in model.parameters()}
    for module in kept:
        if small.pop(id(module.weight)).dtype != torch.float32:
            module.forward = MethodType(_widened, module)
    for parameter in small.values():
        parameter.data = parameter.data.float()


def _widened(module: Any, inputs: Any) -> Any:
    return linear(inputs, module.weight.float(), module.bias)


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads((path / CONFIG).read_bytes())
    except (OSError, ValueError):
        raise ArtifactError(path / CONFIG, "is missing or not JSON; give a Hugging Face model folder") from None
    if not isinstance(config, dict):
        raise ArtifactError(path / CONFIG, "is not a JSON object; give a Hugging Face model folder")
    return config


def _compact(file: Path) -> bytes:
    try:
        return json.dumps(json.loads(file.read_bytes()), ensure_ascii=False, separators=(",", ":")).encode()
    except ValueError:
        raise ArtifactError(file, "is not JSON; give a complete Hugging Face model folder") from None


def _hash(path: Path) -> str:
    """SHA-256 (hex) over the canonical JSON of {file: SHA-256} of the config and the weights."""
    files = {}
    for file in sorted([path / CONFIG, *path.glob("*.safetensors")]):
        with file.open("rb") as stream:
            files[file.name] = hashlib.file_digest(stream, "sha256").hexdigest()
    return hashlib.sha256(json.dumps(files, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
