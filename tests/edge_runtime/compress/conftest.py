"""A tiny teacher, text to calibrate on, and its compression, shared by the tests of the compressor."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from artifacts import CONFIG, write_plain

pytest.importorskip("torch", reason="the compressor needs the compress extra")
pytest.importorskip("transformers", reason="the compressor needs the compress extra")


@pytest.fixture(scope="session")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama: 2 layers, hidden 64, feed-forward 172, tied embedding."""
    return write_plain(tmp_path_factory.mktemp("teacher") / "teacher")


@pytest.fixture(scope="session")
def untied_teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_plain(tmp_path_factory.mktemp("untied") / "untied", {**CONFIG, "tie_word_embeddings": False})


@pytest.fixture(scope="session")
def calibration(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty documents of random letters."""
    random = np.random.default_rng(0)
    documents = ["".join(random.choice(list("abcdefgh ."), 60)) for _ in range(40)]
    path = tmp_path_factory.mktemp("text") / "calibration.txt"
    path.write_text("\n<|endoftext|>\n".join(documents))
    return path
