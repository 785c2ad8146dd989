"""A few thousand malformed messages, the same ones every time; `python -m fuzz.node 0 200000` tries more, `make fuzz` looks for others."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the bound on memory is Linux's")


def test_whatever_a_node_is_sent_it_refuses_it_or_answers() -> None:
    command = [sys.executable, "-m", "fuzz.node", "0", "5000"]
    child = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True, check=False)
    assert child.returncode == 0, child.stderr[-3000:]
    *failures, counts = child.stdout.splitlines()
    assert not failures, "\n".join(failures[:60])
    for outcome in (
        "complete",
        "error",
        "opened",
        "evidence",
        "REPLAYED",
        "NOT_OPENED",
        "STALE_EVIDENCE",
        "SUITE",
        "BAD_NONCE",
        "DecodeError",
    ):
        assert outcome in counts  # or the fuzzer changes too much, or too little
