"""A thousand malformed streams, messages and configurations; `python -m fuzz.oblivious` tries more."""

from __future__ import annotations

from fuzz.oblivious import main


def test_whatever_a_relay_carries_is_opened_as_it_was_sealed_or_refused() -> None:
    assert main(0, 1_000) == 0
