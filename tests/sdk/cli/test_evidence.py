from __future__ import annotations

import json
from pathlib import Path

import pytest

from fakes import UNSURE, FakeEdge, tokens
from leanto import client as client_module
from leanto.cli import main
from nodes import NodeProcess


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> NodeProcess:
    with NodeProcess(tmp_path_factory.mktemp("node"), "--development") as process:
        process.ready()
        yield process  # type: ignore[misc]


def test_the_claims_of_a_live_node_are_printed_with_what_they_do_not_prove(node: NodeProcess, capsys: pytest.CaptureFixture[str]) -> None:
    target = node.target()
    assert main(["evidence", target.address, "--development-root", str(target.development_root)]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"{target.address}: development evidence ")
    assert [line.split()[0] for line in out.splitlines()[2::5]] == ["key", "release", "model"]
    assert out.count("does not prove") == out.count("rests on") == 3
    assert "nothing measured the machine" in out


def test_the_claims_are_one_json_object_for_programs(node: NodeProcess, capsys: pytest.CaptureFixture[str]) -> None:
    target = node.target()
    assert main(["evidence", target.address, "--development-root", str(target.development_root), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["type"] == "development"
    assert {claim["name"] for claim in found["claims"]} == {"key", "release", "model"}


def test_evidence_that_the_root_did_not_sign_is_one_line_and_exit_code_1(node: NodeProcess, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evidence", node.target().address, "--development-root", "A" * 43 + "="]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "not signed by the development root" in err
    assert err.count("\n") == 1


def test_a_policy_that_asks_for_hardware_refuses_a_development_node_and_no_flag_changes_that(
    node: NodeProcess, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = node.target()
    policy = tmp_path / "policy.toml"
    tcb = "{ bootloader = 0, tee = 0, snp = 0, microcode = 0 }"
    table = f'[targets.cloud.evidence]\ntype = "sev-snp"\nmeasurements = ["{"ab" * 48}"]\nminimum_tcb = {tcb}\n'
    policy.write_text(f'version = 1\n[targets.cloud]\naddress = "{target.address}"\n{table}')
    asked = ["evidence", "--policy", str(policy)]
    assert main(asked) == 1
    assert "this policy accepts the sev-snp type alone" in capsys.readouterr().err
    assert main([*asked, target.address]) == 1
    assert "this policy accepts the sev-snp type alone" in capsys.readouterr().err
    root = str(target.development_root)
    for flags in ([target.address, "--development-root", root], ["--set", f"targets.cloud.development_root={root}"]):
        assert main([*asked, *flags]) == 2
        capsys.readouterr()
    ask = ["ask", "x", "--policy", str(policy), "--cloud", target.address, "--development-root", root]
    assert main(ask) == 2
    assert "which no development root replaces" in capsys.readouterr().err


def test_without_a_node_to_ask_it_says_what_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evidence"]) == 2
    assert "give HOST:PORT" in capsys.readouterr().err


@pytest.mark.parametrize("flags", [(), ("--json",), ("--stream",)], ids=" ".join)
def test_a_question_that_leans_shows_on_stderr_what_the_node_proves(
    flags: tuple[str, ...],
    node: NodeProcess,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(client_module, "open_model", lambda model, **_: FakeEdge(tokens("a b c", UNSURE)))
    policy = tmp_path / "policy.toml"
    policy.write_text("version = 1\n[quality.confidence_threshold]\ntext = 0.5\n")
    target = node.target()
    node_flags = ("--cloud", target.address, "--development-root", str(target.development_root))
    assert main(["ask", "red green", "--task", "text", "--max-tokens", "2", "--policy", str(policy), *node_flags, *flags]) == 0
    out, err = capsys.readouterr()
    assert "red green" in out
    assert err.startswith(f"{target.address}: development evidence ")
    assert err.count("proves  ") == err.count("does not prove  ") == err.count("rests on  ") == 3
    assert "does not prove" not in out
