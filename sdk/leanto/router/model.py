"""A trained router and its file: the expected gain, linear plus trees, and the probability that follows from it. NumPy alone.

The file is safetensors: vectors, and a JSON description with the training report; no code, and no word of any prompt but as a hash.
Knows nothing of policies, nor of how it was trained.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from leanto.errors import ModelError, OutputError
from leanto.router.features import BUCKETS, STRUCTURE, features
from leanto.router.trees import DEPTH, TREES, Trees

Vector = NDArray[np.float32]
VERSION = 1
LIMIT = 4.0  # a structure feature is at most so many standard deviations from its mean
_KEY = "leanto_router"
_SHAPES = {
    "structure_mean": (len(STRUCTURE),),
    "structure_scale": (len(STRUCTURE),),
    "structure_weight": (len(STRUCTURE),),
    "term_idf": (BUCKETS,),
    "term_weight": (BUCKETS,),
    "tree_feature": (TREES, DEPTH),
    "tree_threshold": (TREES, DEPTH),
    "tree_value": (TREES, 1 << DEPTH),
}
_NUMBERS = ("bias", "slope", "intercept")


@dataclass(frozen=True, slots=True, eq=False)
class Router:
    """`gain` sums structure, words and trees; `score` is its logistic calibration. `report` says how good it was on unseen prompts."""

    structure_mean: Vector  # (len(STRUCTURE),)
    structure_scale: Vector  # (len(STRUCTURE),), above 0
    structure_weight: Vector  # (len(STRUCTURE),)
    term_idf: Vector  # (BUCKETS,), 0 for what training never saw twice
    term_weight: Vector  # (BUCKETS,)
    trees: Trees
    bias: float
    slope: float  # of the log-odds of "not worse" in the gain, 0 or below
    intercept: float
    report: Mapping[str, Any]

    def score(self, text: str) -> float:
        """P(the local answer is not worse than the cloud's) in [0, 1]. Pure; works for any text, the empty one too."""
        return 0.5 * (1.0 + math.tanh(0.5 * (self.intercept + self.slope * self.gain(text))))

    def gain(self, text: str) -> float:
        """Expected quality of the cloud's answer less that of the local one, in the units of the outcomes: −1…1."""
        structure, found = features(text)
        x = np.array(structure, np.float32)
        form = ((x - self.structure_mean) / self.structure_scale).clip(-LIMIT, LIMIT)
        idf = self.term_idf[found]
        norm = math.sqrt(float(idf @ idf)) or 1.0
        words = float(idf @ self.term_weight[found]) / norm
        return self.bias + float(form @ self.structure_weight) + words + self.trees.predict(x)

    def save(self, path: str | Path) -> None:
        """Write the file. Raises OutputError."""
        about = {
            "version": VERSION,
            "structure": list(STRUCTURE),
            **{name: getattr(self, name) for name in _NUMBERS},
            "report": self.report,
        }
        tensors = {name: getattr(self.trees, name[5:]) if name.startswith("tree_") else getattr(self, name) for name in _SHAPES}
        try:
            Path(path).write_bytes(save(tensors, {_KEY: json.dumps(about, allow_nan=False)}))
        except OSError as error:
            raise OutputError(f"{path}: the router cannot be written: {error.strerror}", path=str(path)) from None

    @classmethod
    def load(cls, path: str | Path) -> Router:
        """Read a file that `save` wrote. Raises ModelError for one that is missing, damaged, or made for other features."""
        try:
            with safe_open(path, framework="np") as file:
                about = json.loads((file.metadata() or {})[_KEY])
                version, names = about["version"], about["structure"]
                if version != VERSION or tuple(names) != STRUCTURE:
                    raise _Refused(f"made for other features (version {version}); train it again with `leanto train-router`")
                tensors = {name: _tensor(file.get_tensor(name), name) for name in _SHAPES}
            trees = Trees(*(tensors.pop(name) for name in ("tree_feature", "tree_threshold", "tree_value")))
            numbers = {name: _number(about[name], name) for name in _NUMBERS}
            report = dict(about["report"])
        except _Refused as error:
            raise ModelError(f"{path}: the router is {error}", path=str(path)) from None
        except OSError as error:
            raise ModelError(f"{path}: the router cannot be read: {error.strerror or error}", path=str(path)) from None
        except (SafetensorError, ValueError, KeyError, TypeError, RecursionError):
            raise ModelError(f"{path}: not a router, or damaged; make one with `leanto train-router`", path=str(path)) from None
        content: dict[str, Any] = {**tensors, **numbers, "trees": trees}
        return cls(**content, report=report)


class _Refused(Exception):
    """A router whose content cannot be used; the message says why."""


def _tensor(found: NDArray[Any], name: str) -> NDArray[Any]:
    """Checked, so that every score is a number."""
    dtype = np.dtype(np.int32 if name == "tree_feature" else np.float32)
    if found.shape != _SHAPES[name] or found.dtype != dtype:
        raise _Refused(f"damaged: {name} is {found.dtype} {found.shape}, not {dtype} {_SHAPES[name]}")
    least, most = {"structure_scale": (1e-9, 1e9), "tree_feature": (0, len(STRUCTURE) - 1)}.get(name, (-1e9, 1e9))
    if not (least <= found.min() and found.max() <= most):
        raise _Refused(f"damaged: {name} holds values out of range")
    return found


def _number(found: Any, name: str) -> float:
    if isinstance(found, bool) or not isinstance(found, int | float) or not abs(found) < 1e9 or (name == "slope" and found > 0):
        raise _Refused(f"damaged: {name} is {found!r}")
    return float(found)
