from __future__ import annotations

import subprocess
import sys

import leanto
from leanto import errors

HEAVY = ("torch", "transformers", "rich", "grpc", "numpy", "psutil", "leanto_edge", "leanto_cloud")


def test_importing_leanto_imports_nothing_heavy() -> None:
    program = f"import leanto, sys; print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_everything_public_exists_and_is_listed_once() -> None:
    assert sorted(set(leanto.__all__)) == leanto.__all__
    assert all(hasattr(leanto, name) for name in leanto.__all__)


def test_the_tree_in_the_errors_docstring_is_the_tree() -> None:
    drawn = [line.split("── ")[1].split()[0] for line in (errors.__doc__ or "").splitlines() if "── " in line]
    defined = [
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, errors.LeantoError) and value is not errors.LeantoError
    ]
    assert sorted(drawn) == sorted(defined)
    assert set(defined) <= set(leanto.__all__)


def test_a_users_mistake_exits_2_and_a_fault_exits_1() -> None:
    assert (errors.PolicyError("x").exit_code, errors.NoRoute("x").exit_code) == (2, 1)


def test_an_error_is_one_line_whatever_it_quotes() -> None:
    assert str(errors.EngineFault("first\nsecond\r\n  third")) == "first second third"


def test_no_terminal_acts_on_what_an_error_quotes() -> None:
    quoted = "\x1b]0;title\x07 \u202eright to left\u2066 \ud800 \x9b31m é"
    assert str(errors.TargetError(quoted)) == "]0;title right to left 31m é"
