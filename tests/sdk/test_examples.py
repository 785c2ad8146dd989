from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import leanto_edge

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
PROGRAMS = sorted(path.name for path in EXAMPLES.glob("*.py"))


@pytest.mark.parametrize("program", PROGRAMS)
def test_an_example_is_short_and_says_what_it_shows(program: str) -> None:
    source = (EXAMPLES / program).read_text()
    assert source.startswith('"""')
    assert len(source.splitlines()) <= 60


@pytest.mark.parametrize("program", PROGRAMS)
def test_an_example_runs_as_it_stands(program: str) -> None:
    if not (leanto_edge.embedded().is_dir() and leanto_edge.embedded_large().is_dir()):
        pytest.skip("the embedded models are absent")
    done = subprocess.run([sys.executable, str(EXAMPLES / program)], capture_output=True, text=True, timeout=100)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip()
