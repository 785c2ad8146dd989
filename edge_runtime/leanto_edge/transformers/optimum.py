"""Compression in the manner of Optimum: `LeantoQuantizer.from_pretrained(model).quantize(save_dir, calibration=...)`.

The work is leanto_edge.compress. Needs the extra `optimum`; importing this file loads no torch.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from leanto_edge.errors import ArtifactError, DependencyError

try:
    from optimum.quantization_base import OptimumQuantizer
except ModuleNotFoundError:
    raise DependencyError("leanto_edge.transformers.optimum needs Optimum: pip install 'leanto[optimum]'") from None

if TYPE_CHECKING:
    from leanto_edge.compress import Report


class LeantoQuantizer(OptimumQuantizer):  # type: ignore[misc]
    """A model that is to be compressed: a folder, a hub id, or a transformers model in memory with its tokenizer."""

    def __init__(self, model: Any, tokenizer: Any = None) -> None:
        self._model, self._tokenizer = model, tokenizer

    @classmethod
    def from_pretrained(cls, model_or_path: Any, file_name: str | None = None, *, tokenizer: Any = None) -> LeantoQuantizer:
        """`tokenizer`: of a model in memory; None loads it from where the model came from. `file_name` must be None: models have one."""
        if file_name is not None:
            raise ValueError(f"file_name {file_name!r} cannot be chosen: a model folder has its own file names")
        return cls(model_or_path, tokenizer)

    def quantize(self, save_dir: str | Path, file_prefix: str | None = None, **options: Any) -> Report:
        """Write the artifact `save_dir`, which must not exist. `options` (`calibration`, `bits`, ...) are those of
        leanto_edge.compress.compress, and so are the errors raised. `file_prefix` must be None: an artifact has its own file names."""
        if file_prefix is not None:
            raise ValueError(f"file_prefix {file_prefix!r} cannot be chosen: an artifact has its own file names")
        from leanto_edge.compress import compress

        if isinstance(self._model, str | Path):
            return compress(self._model, save_dir, **options)
        with tempfile.TemporaryDirectory() as folder:
            options.setdefault("name", Path(str(self._model.config.name_or_path)).name or Path(save_dir).name)
            self._model.save_pretrained(folder)
            self._find_tokenizer(save_dir).save_pretrained(folder)
            return compress(folder, save_dir, **options)

    def _find_tokenizer(self, save_dir: str | Path) -> Any:
        if self._tokenizer is not None:
            return self._tokenizer
        from transformers import AutoTokenizer

        try:
            return AutoTokenizer.from_pretrained(self._model.config.name_or_path)
        except (OSError, ValueError):
            raise ArtifactError(save_dir, "needs the model's tokenizer: give from_pretrained(model, tokenizer=...)") from None
