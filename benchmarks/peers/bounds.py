"""The machine's bounds: how fast it reads memory and sums products of bytes, by a small C++ program built for it."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).with_suffix(".cpp")


def bounds(threads: int, folder: Path) -> dict[str, float]:
    """{"bytes_per_second", "products_per_second"} of so many threads together; the program is kept in `folder`."""
    program = folder / "bounds"
    if not program.exists() or program.stat().st_mtime < SOURCE.stat().st_mtime:
        compiler = os.environ.get("CXX", "c++")
        subprocess.run([compiler, "-O3", "-march=native", "-std=c++20", "-pthread", SOURCE, "-o", program], check=True)
    found: dict[str, Any] = json.loads(subprocess.run([program, str(threads)], check=True, capture_output=True).stdout)
    return found
