from __future__ import annotations

import os
import subprocess
import sys

import pytest

import leanto_kernels as kernels


def test_the_portable_set_is_always_there(isa: str) -> None:
    assert kernels.isa() == isa
    kernels.set_isa("scalar")
    assert kernels.isa() == "scalar"
    kernels.set_isa(isa)


@pytest.mark.parametrize(("wish", "names"), [("scalar", {"scalar"}), ("no such set", {"avx512", "avx2", "scalar"})])
def test_the_environment_chooses_the_first_set(wish: str, names: set[str]) -> None:
    program = "import leanto_kernels; print(leanto_kernels.isa())"
    environment = {**os.environ, "LEANTO_ISA": wish}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() in names
