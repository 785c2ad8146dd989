"""Where the optional real data lies: vectors, evidence, models. Nothing of it is committed; what needs it is skipped where it is absent."""

from __future__ import annotations

import os
from pathlib import Path

DATA = Path(os.environ.get("LEANTO_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
