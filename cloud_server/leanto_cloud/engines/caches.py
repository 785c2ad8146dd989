"""Turns off what a library would remember of one request and let the next one feel. Knows nothing of models."""

from __future__ import annotations

from typing import Any


def forget_words(tokenizer: Any) -> None:
    """Empty and close the cache in which a `tokenizers.Tokenizer` keeps the words it has read.

    It is one for all requests: a word that somebody has sent before is read faster, and stays in memory.
    """
    resize = getattr(tokenizer.model, "_resize_cache", None)  # word-piece and word-level models have none
    if resize is not None:
        resize(0)
