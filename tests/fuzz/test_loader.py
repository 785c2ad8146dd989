"""A few thousand malformed folders, the same ones every time; `make fuzz` looks for others."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the bound on memory is Linux's")
TESTS = Path(__file__).parents[1]


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], cwd=TESTS, capture_output=True, text=True, check=False)


def test_whatever_a_folder_holds_the_loader_refuses_it_in_one_line_or_runs_it() -> None:
    child = python("-m", "fuzz.loader", "0", "2500")
    assert child.returncode == 0, child.stderr[-3000:]  # a crash; the last lines say with which folder
    *failures, counts = child.stdout.splitlines()
    assert not failures, "\n".join(failures[:60])
    for outcome in ("loaded", "ArtifactError", "UnsupportedModelError", "AdapterError"):  # or the fuzzer changes too much, or too little
        assert outcome in counts


@pytest.mark.skipif("libasan" in os.environ.get("LD_PRELOAD", ""), reason="AddressSanitizer reserves more than any bound")
def test_the_memory_of_the_loader_is_bounded_while_it_is_tried() -> None:
    child = python("-c", "from fuzz import loader; loader.bound_memory(); bytes(2 * loader.MEMORY_BYTES)")
    assert "MemoryError" in child.stderr
