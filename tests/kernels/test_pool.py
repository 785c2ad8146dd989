"""The thread pool under ThreadSanitizer, in a program of its own: Python and NumPy are not built for it."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = [Path(__file__).with_name("pool_race.cpp"), ROOT / "kernels" / "src" / "pool.cpp"]
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}  # another sanitizer, perhaps


def compiled(program: Path, *sources: Path) -> bool:
    compiler = shutil.which(os.environ.get("CXX", "c++"))
    command = [compiler or "", "-std=c++20", "-O1", "-g", "-fsanitize=thread", "-pthread", "-I", ROOT / "kernels" / "src", *sources]
    return compiler is not None and subprocess.run([*command, "-o", program], env=ENVIRONMENT, check=False).returncode == 0


def runs(program: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(program, env=ENVIRONMENT, capture_output=True, text=True, check=False)


def test_loops_of_several_callers_race_for_nothing(tmp_path: Path) -> None:
    (tmp_path / "nothing.cpp").write_text("int main() {}")
    if not compiled(tmp_path / "nothing", tmp_path / "nothing.cpp") or runs(tmp_path / "nothing").returncode:
        pytest.skip("no compiler with a ThreadSanitizer that runs here")
    assert compiled(tmp_path / "race", *SOURCES)
    done = runs(tmp_path / "race")
    assert done.returncode == 0, done.stdout + done.stderr
