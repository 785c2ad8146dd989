"""A thousand malformed notes, proofs, tokens and keys; `python -m fuzz.log_and_tokens` tries more."""

from __future__ import annotations

from fuzz.log_and_tokens import main


def test_whatever_is_malformed_is_read_or_refused() -> None:
    assert main(0, 1_000) == 0
