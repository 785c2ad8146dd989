"""leanto_edge: the local model. Maps a compressed artifact and runs it through leanto_kernels, with evidence for every token.

engine = leanto_edge.load(leanto_edge.embedded())
engine.complete(GenerationRequest("turn off the kitchen lights", task="call")).text
"""

from __future__ import annotations

from pathlib import Path

from leanto_edge.engine import Engine, ModelInfo, load
from leanto_edge.errors import AdapterError, ArtifactError, DependencyError, EdgeError, PromptError, UnsupportedModelError
from leanto_edge.generation import Completion, GenerationRequest, SamplingParams, Token

__all__ = [
    "AdapterError",
    "ArtifactError",
    "Completion",
    "DependencyError",
    "EdgeError",
    "Engine",
    "GenerationRequest",
    "ModelInfo",
    "PromptError",
    "SamplingParams",
    "Token",
    "UnsupportedModelError",
    "embedded",
    "embedded_large",
    "load",
]

_MODELS = Path(__file__).parent / "models"


def embedded() -> Path:
    """The artifact of pocket, the edge model that ships with the package."""
    return _MODELS / "pocket"


def embedded_large() -> Path:
    """The artifact of pocket-large, the larger model that a private compute node serves by default."""
    return _MODELS / "pocket-large"
