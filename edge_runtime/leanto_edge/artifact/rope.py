"""Reads from a config how attention heads are turned by position (RoPE, arXiv 2104.09864): tables of frequencies.

Knows the rope types default, linear, llama3 and longrope in the spellings of old and new configs. Knows nothing of layers and weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from leanto_edge.errors import UnsupportedModelError

MOST_HEAD_DIM = 1 << 16  # bounds the tables that a config can ask for
THETA: Mapping[str, float] = {"smollm3": 2_000_000.0, "gemma3_text": 1_000_000.0}  # where a config names none; else 10,000
LOCAL_THETA = 10_000.0  # of Gemma 3's layers with a window

Config = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Rope:
    """`frequencies`: radians for each position, of each turned pair of a head's elements. `scale` is that of the sines and cosines.

    A cache with room for more than `original_length` tokens takes `long_frequencies` in their place, if there are any.
    """

    frequencies: tuple[float, ...]
    long_frequencies: tuple[float, ...] = ()
    original_length: int = 0
    scale: float = 1.0

    def kernel_config(self) -> dict[str, Any]:
        """What leanto_kernels.Model wants to know."""
        return asdict(self)


def read_ropes(file: Path, config: Config, head_dim: int) -> tuple[Rope, ...]:
    """The rope of all layers, or of Gemma 3's layers that see everything and then of those with a window.

    Raises UnsupportedModelError (`file` is the config's) for a rope that the engine does not know; KeyError, TypeError, ValueError or
    ArithmeticError for settings that make no sense.
    """
    theta = config.get("rope_theta", THETA.get(config["model_type"], 10_000.0))
    scaling, settings = config.get("rope_scaling") or {}, config.get("rope_parameters") or {}
    for found in (scaling, settings):
        if not isinstance(found, dict):
            raise UnsupportedModelError(file, f"rope_type is {found!r:.40}; this engine runs {', '.join(_TYPES)}")
    if config["model_type"] == "gemma3_text":
        everywhere = {"rope_theta": theta, **(settings.get("full_attention") or {}), **scaling}
        latest = {"rope_theta": config.get("rope_local_base_freq", LOCAL_THETA), **(settings.get("sliding_attention") or {})}
        return tuple(_read_rope(file, config, head_dim, part) for part in (everywhere, latest))
    if "full_attention" in settings or "sliding_attention" in settings:
        raise UnsupportedModelError(file, "rope_parameters differ between layers; this engine runs that in gemma3_text only")
    return (_read_rope(file, config, head_dim, {"rope_theta": theta, **(scaling or settings)}),)


def _read_rope(file: Path, config: Config, head_dim: int, settings: Config) -> Rope:
    kind = settings.get("rope_type", settings.get("type", "default"))
    phi = config["model_type"] == "phi3"
    if phi and kind in ("su", "yarn"):
        kind = "longrope"  # early names of what Phi-3 does
    if not isinstance(kind, str) or kind not in _TYPES:
        raise UnsupportedModelError(file, f"rope_type is {kind!r:.40}; this engine runs {', '.join(_TYPES)}")
    part = settings.get("partial_rotary_factor", config.get("partial_rotary_factor"))
    part = 1.0 if part is None else float(part)
    if part != 1.0 and not phi:
        raise UnsupportedModelError(file, f"partial_rotary_factor is {part:.4g}; this engine turns a part of each head in phi3 only")
    theta = float(settings["rope_theta"])
    if not (0 < theta < math.inf and 0 < part <= 1 and 0 < head_dim <= MOST_HEAD_DIM):
        raise ValueError("rope_theta, partial_rotary_factor or head_dim is out of range")
    turned = int(head_dim * part)
    return _TYPES[kind]([theta ** -(i / turned) for i in range(0, turned, 2)], settings, config)


def _default(plain: list[float], _settings: Config, _config: Config) -> Rope:
    return Rope(tuple(plain))


def _linear(plain: list[float], settings: Config, _config: Config) -> Rope:
    """Positions divided by a factor."""
    factor = float(settings["factor"])
    return Rope(tuple(frequency / factor for frequency in plain))


def _llama3(plain: list[float], settings: Config, config: Config) -> Rope:
    """Llama 3.1: waves longer than the original context are stretched by a factor, short ones kept, those between in between."""
    factor, low, high = (float(settings[name]) for name in ("factor", "low_freq_factor", "high_freq_factor"))
    original = _original_length(settings, config)

    def stretched(frequency: float) -> float:
        turns = original * frequency / math.tau  # within the original context
        kept = min(1.0, max(0.0, (turns - low) / (high - low)))
        return frequency * (kept + (1 - kept) / factor)

    return Rope(tuple(map(stretched, plain)))


def _longrope(plain: list[float], settings: Config, config: Config) -> Rope:
    """LongRoPE (arXiv 2402.13753): a factor for each frequency, one set for short and one for long contexts."""
    original = _original_length(settings, config)
    factor = float(settings.get("factor") or config["max_position_embeddings"] / original)
    scale = settings.get("attention_factor")
    if scale is None:
        scale = math.sqrt(1 + math.log(factor) / math.log(original)) if factor > 1 else 1.0
    short, long = (
        tuple(frequency / float(stretch) for frequency, stretch in zip(plain, settings[name], strict=True))
        for name in ("short_factor", "long_factor")
    )
    return Rope(short, long, original, float(scale))


def _original_length(settings: Config, config: Config) -> int:
    """Tokens of the context before it was stretched; Phi-3 configs keep it outside the settings."""
    if config["model_type"] == "phi3":
        return int(config.get("original_max_position_embeddings", 4096))
    return int(settings.get("original_max_position_embeddings") or config["max_position_embeddings"])


_TYPES: Mapping[str, Callable[[list[float], Config, Config], Rope]] = {
    "default": _default,
    "linear": _linear,
    "llama3": _llama3,
    "longrope": _longrope,
}
