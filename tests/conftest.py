"""Fixtures that every room shares: where the optional real data lies, and the real model nobody here trained."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from data_folder import DATA

ROOT = Path(__file__).resolve().parents[1]

# Before anything imports torch: on models as small as those of the tests a second thread of it only waits, and on a busy machine for long.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# An example that takes long on a busy machine is no fault of the code; what a test may take at all is pytest-timeout's matter.
settings.register_profile("leanto", deadline=None)
settings.load_profile("leanto")


@pytest.fixture(scope="session", autouse=True)
def state_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """No test writes to the user's own state folder."""
    with pytest.MonkeyPatch.context() as patch:
        home = tmp_path_factory.mktemp("state")
        patch.setenv("XDG_STATE_HOME", str(home))
        patch.setenv("LOCALAPPDATA", str(home))
        yield home


@pytest.fixture(scope="session")
def data_dir() -> Path:
    if not DATA.is_dir():
        pytest.skip("the real data folder is absent (set LEANTO_DATA to its path)")
    return DATA


@pytest.fixture(scope="session")
def stories260k(data_dir: Path) -> Path:
    path = data_dir / "models" / "stories260K"
    if not path.is_dir():
        pytest.skip("stories260K is absent from the data folder")
    return path
