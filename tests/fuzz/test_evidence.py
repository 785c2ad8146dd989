"""A thousand malformed pieces of evidence, the same ones every time; `python -m fuzz.evidence FIRST COUNT` looks at others."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]


@pytest.mark.skipif(sys.platform != "linux", reason="the bound on memory is Linux's")
def test_whatever_evidence_holds_it_is_refused_in_one_line_or_verified() -> None:
    count = os.environ.get("LEANTO_FUZZ_CASES", "1000")
    child = subprocess.run([sys.executable, "-m", "fuzz.evidence", "0", count], cwd=TESTS, capture_output=True, text=True, check=False)
    assert child.returncode == 0, child.stderr[-3000:]
    *failures, counts = child.stdout.splitlines()
    assert not failures, "\n".join(failures[:60])
    for outcome in ("accepted", "EvidenceError", "DecodeError"):  # or the fuzzer changes too much, or too little
        assert outcome in counts
