from __future__ import annotations

import json
from pathlib import Path

import pytest

from leanto import Client
from leanto.cli import main
from leanto.errors import UserError
from leanto.policy.claims import read_claim


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("p95_ms <= 1.1x", False),
        ("p95_ms<=2x", True),
        ("local_share >= 0.5", True),
        ("usd < 0.01", False),
        ("usd <= 0.01", True),
        ("risk > 0", False),
    ],
)
def test_a_claim_gates(text: str, holds: bool) -> None:
    before = {"p95_ms": 100.0, "local_share": 1.0, "usd": 0.0, "risk": None}
    after = {"p95_ms": 150.0, "local_share": 0.5, "usd": 0.01, "risk": None}
    assert read_claim(text).holds(before, after) is holds


@pytest.mark.parametrize("text", ["", "p95_ms", "p95 < 1", "p95_ms = 1", "p95_ms < x", "p95_ms < 1..2", "p95_ms < 1 y"])
def test_a_claim_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="--require"):
        read_claim(text)


def test_the_command_gates_a_ci(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    policy = tmp_path / "p.toml"
    policy.write_text("version = 1\n")
    with Client(log=tmp_path / "log") as client:
        client.ask("wake me up at six")
    arguments = ["policy", "replay", str(tmp_path / "log"), "--policy", str(policy)]
    assert main([*arguments, "--require", "local_share >= 1x"]) == 0
    assert "local_share" in capsys.readouterr().out
    assert main([*arguments, "--json", "--require", "local_share > 1"]) == 1
    out = capsys.readouterr()
    assert json.loads(out.out)["broken"] == ["local_share > 1"]
    assert "does not hold: local_share > 1" in out.err
