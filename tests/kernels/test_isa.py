from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

import leanto_kernels as kernels

NAMES = "neon_dotprod, neon or scalar" if platform.machine() in ("aarch64", "arm64") else "avx512, avx2 or scalar"


def test_the_portable_set_is_always_there(isa: str) -> None:
    assert kernels.isa() == isa
    kernels.set_isa("scalar")
    assert kernels.isa() == "scalar"
    kernels.set_isa(isa)


def import_with(wish: str) -> subprocess.CompletedProcess[str]:
    program = "import leanto_kernels; print(leanto_kernels.isa())"
    return subprocess.run([sys.executable, "-c", program], env={**os.environ, "LEANTO_ISA": wish}, capture_output=True, text=True)


def test_the_environment_chooses_the_first_set(isas: list[str]) -> None:
    for wish in isas:
        done = import_with(wish)
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip() == wish


def test_the_best_set_of_the_machine_is_the_first_without_a_wish(isas: list[str]) -> None:
    assert import_with("").stdout.strip() == isas[0]


@pytest.mark.parametrize("wish", ["avx 2", "AVX2", "no such set"])
def test_a_misspelt_wish_fails_the_import_and_names_the_sets(wish: str) -> None:
    done = import_with(wish)
    assert done.returncode != 0
    assert f"LEANTO_ISA={wish} names no instruction set of this machine: set {NAMES}, or unset it" in done.stderr
