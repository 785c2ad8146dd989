"""Reads from a config in what the layers of one model differ: which turn their heads by position, and which see only the latest tokens.

Knows the keys of every architecture and what transformers makes of a config without them. Knows nothing of weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from leanto_edge.errors import UnsupportedModelError

MOST_LAYERS = 1024  # every layer costs memory before a weight is read
FULL, SLIDING = "full_attention", "sliding_attention"
WINDOW: Mapping[str, int] = {"mistral": 4096, "gemma2": 4096, "gemma3_text": 4096}  # where a config names none

Config = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class LayerShape:
    """`rope`: the index of the table that turns its heads (None: it does not encode positions). `window`: how many of the latest
    tokens it sees (None: all)."""

    rope: int | None
    window: int | None


def read_layers(file: Path, config: Config) -> tuple[LayerShape, ...]:
    """One LayerShape for each layer. Raises UnsupportedModelError for a kind of layer that the engine does not know; KeyError,
    TypeError, ValueError or ArithmeticError for a config that makes no sense."""
    count = int(config["num_hidden_layers"])
    if not 0 < count <= MOST_LAYERS:
        raise ValueError(f"num_hidden_layers is not in 1..{MOST_LAYERS}")
    turned = _turned(config, count)
    kinds = _kinds(config, count, turned)
    unknown = next((kind for kind in kinds if kind not in (FULL, SLIDING)), None)
    if unknown is not None:
        raise UnsupportedModelError(file, f"a layer is of type {unknown!r:.40}; this engine runs {FULL} and {SLIDING}")
    window = int(_window(config)) if SLIDING in kinds else None  # None is no number: a TypeError
    if window is not None and window < 1:
        raise ValueError("sliding_window is out of range")
    local = 1 if config["model_type"] == "gemma3_text" else 0  # layers with a window have a rope of their own there
    return tuple(
        LayerShape(rope=None if not turns else local if kind == SLIDING else 0, window=window if kind == SLIDING else None)
        for kind, turns in zip(kinds, turned, strict=True)
    )


def _window(config: Config) -> Any:
    return config.get("sliding_window", WINDOW.get(config["model_type"]))


def _turned(config: Config, count: int) -> list[bool]:
    """Which layers turn their heads by position: in SmolLM3 not all."""
    if config["model_type"] != "smollm3":
        return [True] * count
    listed = config.get("no_rope_layers")  # 1 for a layer with a rope
    if listed is None:
        interval = int(config.get("no_rope_layer_interval", 4))
        return [(index + 1) % interval != 0 for index in range(count)]
    if len(listed) < count:
        raise ValueError("no_rope_layers has fewer entries than there are layers")
    return [bool(flag) for flag in listed[:count]]


def _kinds(config: Config, count: int, turned: list[bool]) -> list[str]:
    """What layer_types lists, or would list."""
    kind = config["model_type"]
    used = bool(config.get("use_sliding_window")) and _window(config) is not None
    if kind == "llama":
        return [FULL] * count
    if kind in ("mistral", "phi3"):
        return [FULL if _window(config) is None else SLIDING] * count
    if config.get("layer_types") is not None:
        if len(config["layer_types"]) != count:
            raise ValueError("layer_types does not have one entry for each layer")
        return list(config["layer_types"])
    if kind in ("gemma2", "gemma3_text"):
        period = 2 if kind == "gemma2" else int(config.get("sliding_window_pattern", 6))
        return [SLIDING if (index + 1) % period else FULL for index in range(count)]
    if kind == "smollm3":
        return [SLIDING if used and not turns else FULL for turns in turned]
    first = int(config.get("max_window_layers", 28))
    return [SLIDING if used and index >= first else FULL for index in range(count)]
