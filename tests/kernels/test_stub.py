from __future__ import annotations

import ast
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import leanto_kernels
from leanto_kernels import _native

STUB = ast.parse((Path(leanto_kernels.__file__).parent / "_native.pyi").read_text(encoding="utf-8"))


def stub_functions(body: list[ast.stmt]) -> dict[str, ast.FunctionDef]:
    return {node.name: node for node in body if isinstance(node, ast.FunctionDef)}


def stub_classes() -> dict[str, ast.ClassDef]:
    return {node.name: node for node in STUB.body if isinstance(node, ast.ClassDef)}


def public(owner: ModuleType | type) -> dict[str, Any]:
    return {name: value for name, value in vars(owner).items() if not name.startswith("_")}


def written_signature(function: Any) -> list[tuple[str, str | None]]:
    """Return (name, default) of each parameter, as nanobind states them."""
    ((signature, *_),) = function.__nb_signature__
    plain = re.sub(r"\\\d+", "...", re.sub(r"ndarray\[[^]]*\]", "ndarray", signature))  # \\1 stands for a default's value
    stated = ast.parse(plain + ": ...").body[0]
    assert isinstance(stated, ast.FunctionDef)
    return parameters(stated)


def parameters(node: ast.FunctionDef) -> list[tuple[str, str | None]]:
    names = [argument.arg for argument in node.args.args]
    defaults = [None] * (len(names) - len(node.args.defaults)) + [ast.unparse(d) for d in node.args.defaults]
    return list(zip(names, defaults, strict=True))


def test_the_stub_names_everything_that_was_built_and_nothing_else() -> None:
    built = public(_native)
    assert set(stub_functions(STUB.body)) | set(stub_classes()) == set(built)
    for name, node in stub_classes().items():
        assert set(stub_functions(node.body)) - {"__init__"} == set(public(built[name]))


def functions() -> list[tuple[ast.FunctionDef, Any]]:
    pairs = [(node, getattr(_native, name)) for name, node in stub_functions(STUB.body).items()]
    for owner, node in stub_classes().items():
        methods = {name: m for name, m in stub_functions(node.body).items() if not m.decorator_list}
        pairs += [(method, getattr(getattr(_native, owner), name)) for name, method in methods.items()]
    return pairs


@pytest.mark.parametrize(("stub", "built"), functions(), ids=lambda value: getattr(value, "name", ""))
def test_parameters_and_defaults_are_those_of_the_stub(stub: ast.FunctionDef, built: Any) -> None:
    stated = written_signature(built)
    assert [name for name, _ in stated] == [name for name, _ in parameters(stub)]
    assert [default is None for _, default in stated] == [default is None for _, default in parameters(stub)]


def test_the_package_exports_every_native_name() -> None:
    assert set(public(_native)) <= set(leanto_kernels.__all__)
