"""What can go wrong on the edge. Each message is one line: what happened, where, what to do.

EdgeError
├── ArtifactError            the model's files are missing, truncated, tampered with or of another version
│   ├── UnsupportedModelError    the files are sound, but this engine does not run that architecture
│   └── AdapterError             an adapter that is damaged, or was made for another model
├── DependencyError          an optional library is absent, or of a version that does not do what is needed
└── PromptError              the request itself: empty, too long for the context, not text, a task the model lacks
"""

from __future__ import annotations

from pathlib import Path

_LONGEST_LINE = 500  # characters


class EdgeError(Exception):
    """Anything that leanto_edge raises on purpose."""


class ArtifactError(EdgeError):
    """The artifact at `path` cannot be used."""

    def __init__(self, path: str | Path, message: str) -> None:
        super().__init__(f"{path}: {_one_line(message)}")
        self.path = Path(path)


class UnsupportedModelError(ArtifactError):
    """The artifact is sound but asks for something that the engine does not do."""


class DependencyError(EdgeError):
    """An optional library is absent, or it cannot do what is asked."""


class AdapterError(ArtifactError):
    """The adapter at `path` cannot be used with this model."""


class PromptError(EdgeError):
    """The prompt or the request cannot be run as it stands."""


def _one_line(message: str) -> str:
    """`message`, which may quote a hostile file, fit to be printed: its beginning and its end, all printable."""
    if len(message) > _LONGEST_LINE:
        message = f"{message[: _LONGEST_LINE // 2]} … {message[-_LONGEST_LINE // 2 :]}"
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in message)
