from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from leanto.cli import main


def file(folder: Path, text: str = "", name: str = "p.toml") -> str:
    (folder / name).write_text("version = 1\n" + text)
    return str(folder / name)


def test_check_says_what_is_wrong_and_where(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["policy", "check", file(tmp_path)]) == 0
    assert "fine; 0 rules; hash" in capsys.readouterr().out
    broken = file(tmp_path, "[budgets]\ndeadline = 5\n")
    assert main(["policy", "check", broken]) == 2
    assert f"{broken}:3: unknown name 'deadline'" in capsys.readouterr().err


def test_check_warns_of_rules_that_may_leave_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rules = [("plugged && prompt_tokens > 5", "local"), ("plugged", "cloud")]
    text = "".join(f"[[rules]]\nname = '{i}'\nif = '{condition}'\nallow = ['{where}']\n" for i, (condition, where) in enumerate(rules))
    path = file(tmp_path, text + "[end]\n")
    assert main(["policy", "check", path]) == 0
    warned = capsys.readouterr().err
    assert warned == f"leanto: {path}:9: the rules '0' and '1' leave nothing that could answer, as with plugged = true, prompt_tokens = 6\n"


def test_check_says_where_a_file_does_not_say_that_it_is_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["policy", "check", file(tmp_path)]) == 0
    assert "has no last line [end]" in capsys.readouterr().err
    assert main(["policy", "check", file(tmp_path, "[end]\n")]) == 0
    assert capsys.readouterr().err == ""


def test_a_signature_that_cannot_be_written_is_no_traceback(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pem, policy = tmp_path / "key.pem", file(tmp_path)
    pem.write_bytes(Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    Path(f"{policy}.sig").mkdir()
    assert main(["policy", "sign", policy, "--key", str(pem)]) == 2
    assert "its signature cannot be written" in capsys.readouterr().err


def test_diff_lists_what_differs_and_gates(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old, new = file(tmp_path), file(tmp_path, "[budgets]\ndeadline_ms = 5\n[privacy.classes]\nwork = ['local']\n", "new.toml")
    assert main(["policy", "diff", old, old]) == 0
    assert capsys.readouterr().out == ""
    assert main(["policy", "diff", old, new]) == 1
    assert capsys.readouterr().out.splitlines() == ["budgets.deadline_ms: 30000 → 5", 'privacy.classes.work: absent → ["local"]']


def test_sign_and_check_belong_together(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pem, policy = tmp_path / "key.pem", file(tmp_path)
    pem.write_bytes(Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    assert main(["policy", "sign", policy, "--key", str(pem)]) == 0
    public = capsys.readouterr().out.split()[-1]
    assert main(["policy", "check", policy, "--policy-key", public]) == 0
    assert "signed by that key" in capsys.readouterr().out
    file(tmp_path, "# changed\n")
    assert main(["policy", "check", policy, "--policy-key", public]) == 2
    assert main(["ask", "hello", "--policy", policy, "--policy-key", public]) == 2


@pytest.mark.parametrize("content", [None, b"", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"])
def test_a_key_that_is_none_is_refused(tmp_path: Path, content: bytes | None, capsys: pytest.CaptureFixture[str]) -> None:
    if content is not None:
        (tmp_path / "key.pem").write_bytes(content)
    assert main(["policy", "sign", file(tmp_path), "--key", str(tmp_path / "key.pem")]) == 2
    assert "key.pem" in capsys.readouterr().err


def test_config_shows_what_is_in_force_and_why(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    policy = file(tmp_path, "[handoff]\nwindow = 8\n")
    monkeypatch.setenv("LEANTO_POLICY__OFFLINE__MODE", "fail")
    assert main(["config", "show", "--origin", "--policy", policy, "--set", "budgets.deadline_ms=5"]) == 0
    shown = {line.split()[0]: line.split(maxsplit=1)[1] for line in capsys.readouterr().out.splitlines()}
    assert shown["handoff.window"] == f"8  ({policy}:3)"
    assert shown["offline.mode"] == '"fail"  (environment LEANTO_POLICY__OFFLINE__MODE)'
    assert shown["budgets.deadline_ms"] == "5  (--set budgets.deadline_ms)"
    assert shown["handoff.resume"] == '"prefix"  (default)'
    assert len(shown["hash"]) == 64
