"""`leanto certify`: the feasibility first, then a signed file; or one line of what was wrong."""

from __future__ import annotations

import base64
import json
import time
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

import leanto_edge
from leanto.certificates.certificate import usable, verify
from leanto.certificates.certified import score_name
from leanto.cli import main

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PIN = base64.b64encode(KEY.public_key().public_bytes_raw()).decode()


@pytest.fixture
def pairs(tmp_path: Path) -> str:
    """2,000 answers whose risk falls from 40 % to none as the score rises, and as many of another task, all of them worse."""
    random = np.random.default_rng(0)
    lines = []
    for score in random.random(2000).tolist():
        lines.append({"score": score, "worse": bool(random.random() < 0.4 * (1 - score)), "task": "call"})
        lines.append({"score": score, "worse": True, "task": "text"})
    return written(tmp_path / "pairs.jsonl", "\n".join(map(json.dumps, lines)) + "\n\n")


@pytest.fixture
def key(tmp_path: Path) -> str:
    return pem(tmp_path / "key.pem", KEY)


def pem(path: Path, key: Ed25519PrivateKey | X25519PrivateKey) -> str:
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return str(path)


def written(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line on stderr of a user's mistake."""
    assert main(["certify", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    return err


def test_the_feasibility_comes_first_and_the_certificate_can_be_used(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, pairs: str, key: str
) -> None:
    file = tmp_path / "call.cert"
    assert main(["certify", pairs, "--alpha", "0.1", "--cloud-model", "big", "--key", key, "--out", str(file)]) == 0
    lines = capsys.readouterr().out.splitlines()
    labels = [line.split()[0] for line in lines]
    assert labels == ["pairs", "oracle", "this", "labels", "certified", "certified", "written", "pin"]
    assert lines[-1].split()[1] == PIN
    info = leanto_edge.load(leanto_edge.embedded()).info
    found, reason = usable(file.read_text(), PIN, info.build_hash, "big", "call", time.time(), score=score_name(info.confidence["call"]))
    assert found is not None, reason
    assert (found.event, [point.alpha for point in found.points]) == ("worse", [0.1, 0.05])
    assert 0.4 < found.threshold < 0.75


def test_a_program_can_read_the_report(capsys: pytest.CaptureFixture[str], pairs: str) -> None:
    assert main(["certify", pairs, "--alpha", "0.1", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["feasibility"]["n"] == 2000
    assert report["certified"][0]["alpha"] == 0.1


def test_what_cannot_be_certified_says_why_and_writes_nothing(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, pairs: str, key: str
) -> None:
    file = tmp_path / "text.cert"
    assert main(["certify", pairs, "--task", "text", "--cloud-model", "big", "--key", key, "--out", str(file)]) == 1
    out = capsys.readouterr().out
    assert "could keep at most 0.0% local" in out
    assert "nothing" in out
    assert not file.exists()


@pytest.mark.parametrize(
    "line",
    [
        *("{", "3", "[]", '{"score": 1}', '{"score": 2, "worse": true}', '{"score": NaN, "worse": true}', '{"score": 0.5, "worse": 1}'),
        '{"score": 0.5, "worse": true, "wrong": true}',
        '{"score": 0.5, "worse": true, "score_name": 3}',
    ],
)
def test_a_line_that_is_no_pair_is_named(capsys: pytest.CaptureFixture[str], tmp_path: Path, line: str) -> None:
    file = written(tmp_path / "bad.jsonl", f'{{"score": 0.5, "worse": false}}\n{line}\n')
    assert "bad.jsonl:2: expected one JSON object a line" in refused(capsys, file)


@pytest.mark.parametrize(
    ("line", "kinds"),
    [
        ('{"score": 0.5, "wrong": false}', "labels of several kinds (worse, wrong)"),
        ('{"score": 0.5, "worse": false, "score_name": "another"}', "scores of several kinds (None, another)"),
    ],
)
def test_pairs_that_do_not_speak_of_the_same_are_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path, line: str, kinds: str) -> None:
    file = written(tmp_path / "mixed.jsonl", f'{{"score": 0.5, "worse": false}}\n{line}\n')
    assert kinds in refused(capsys, file)


def test_scores_of_another_confidence_are_not_signed_for(capsys: pytest.CaptureFixture[str], tmp_path: Path, pairs: str, key: str) -> None:
    rows = [{**json.loads(line), "score_name": "another"} for line in Path(pairs).read_text().split("\n") if line]
    named = written(tmp_path / "named.jsonl", "\n".join(map(json.dumps, rows)))
    signing = (named, "--alpha", "0.1", "--cloud-model", "big", "--key", key, "--out", str(tmp_path / "c"))
    assert "its scores are 'another', but pocket gives 'confidence" in refused(capsys, *signing)
    assert main(["certify", *signing, "--score", "another"]) == 0
    assert verify((tmp_path / "c").read_text(), PIN).score == "another"


def test_mistakes_are_said_before_anything_is_read(capsys: pytest.CaptureFixture[str], tmp_path: Path, key: str) -> None:
    assert "--alpha 1.5" in refused(capsys, "absent", "--alpha", "1.5")
    assert "--delta nan" in refused(capsys, "absent", "--delta", "nan")
    assert "--days" in refused(capsys, "absent", "--days", "0")
    assert "go together" in refused(capsys, "absent", "--key", key)
    assert "--cloud-model" in refused(capsys, "absent", "--key", key, "--out", str(tmp_path / "c"))
    assert "already exists" in refused(capsys, "absent", "--key", key, "--out", key, "--cloud-model", "big")
    assert "cannot be read" in refused(capsys, "absent")
    assert "no pairs for the task 'call'" in refused(capsys, written(tmp_path / "empty", "\n"))


def test_only_an_ed25519_key_signs(capsys: pytest.CaptureFixture[str], tmp_path: Path, pairs: str) -> None:
    rest = ("--out", str(tmp_path / "c"), "--cloud-model", "big")
    for file in (pem(tmp_path / "x.pem", X25519PrivateKey.generate()), pairs, "absent"):
        assert "Ed25519 private key" in refused(capsys, pairs, "--key", file, *rest)
