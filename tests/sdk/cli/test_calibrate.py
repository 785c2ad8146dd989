"""`leanto calibrate`: a model learns how sure it may be; what it has not learnt from can be certified."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import leanto_edge
from leanto.certificates.agreement import same
from leanto.certificates.certificate import verify
from leanto.certificates.certified import score_name
from leanto.cli import main
from promises import PUBLIC, key_file

UTTERANCES = [
    f"{verb} {what} {when}"
    for verb in ("wake me", "set an alarm", "play music", "what is the weather", "tell me a story", "remind me to call")
    for what in ("in london", "for six", "by queen", "please")
    for when in ("tomorrow", "on monday", "now")
]


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What pocket says to half of the utterances, and something else for the shortest half."""
    engine = leanto_edge.load(leanto_edge.embedded())
    rows = []
    for i, prompt in enumerate(UTTERANCES):
        said = engine.complete(leanto_edge.GenerationRequest(prompt, "call", leanto_edge.SamplingParams(max_tokens=96))).text
        rows.append({"prompt": prompt, "completion": {"intent": "other", "slots": {}} if i % 3 == 0 else json.loads(said)})
    path = tmp_path_factory.mktemp("pairs") / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line on stderr of a user's mistake."""
    assert main(["calibrate", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    return err


def test_the_confidence_is_kept_in_the_artifact(capsys: pytest.CaptureFixture[str], tmp_path: Path, pairs: str) -> None:
    model = tmp_path / "model"
    shutil.copytree(leanto_edge.embedded(), model)
    before = leanto_edge.load(model).info
    assert main(["calibrate", pairs, "--model", str(model), "--write", "--json"]) == 0
    fitted = json.loads(capsys.readouterr().out)["call"]
    after = leanto_edge.load(model).info
    assert after.confidence["call"] == fitted != before.confidence["call"]
    assert (fitted["rows"], after.build_hash) == (len(UTTERANCES), before.build_hash)


def test_what_was_not_learnt_from_goes_to_certify(capsys: pytest.CaptureFixture[str], tmp_path: Path, pairs: str) -> None:
    rest = tmp_path / "rest.jsonl"
    assert main(["calibrate", pairs, "--certify", str(rest)]) == 0
    out = capsys.readouterr().out
    assert f"fitted on {len(UTTERANCES) // 3}" in out
    assert len(rest.read_text().splitlines()) == len(UTTERANCES) - len(UTTERANCES) // 3
    assert main(["certify", str(rest), "--alpha", "0.6", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["feasibility"]["risk"] == pytest.approx(1 / 3, abs=0.1)


def test_what_is_signed_speaks_of_the_confidence_that_was_written_or_is_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, pairs: str
) -> None:
    model, rest, key = tmp_path / "model", tmp_path / "rest.jsonl", str(key_file(tmp_path))
    shutil.copytree(leanto_edge.embedded(), model)
    signing = ["certify", str(rest), "--alpha", "0.6", "--model", str(model), "--cloud-model", "big", "--key", key, "--out"]
    assert main(["calibrate", pairs, "--model", str(model), "--certify", str(rest)]) == 0
    assert "only to look at" in capsys.readouterr().out
    assert main([*signing, str(tmp_path / "refused")]) == 2
    assert "its scores are 'confidence" in capsys.readouterr().err
    assert not (tmp_path / "refused").exists()
    rest.unlink()
    assert main(["calibrate", pairs, "--model", str(model), "--write", "--certify", str(rest)]) == 0
    assert main([*signing, str(tmp_path / "signed")]) == 0
    found = verify((tmp_path / "signed").read_text(), PUBLIC)
    assert found.score == score_name(leanto_edge.load(model).info.confidence["call"])
    assert found.event == "wrong"  # the pairs know the right answers, not the cloud's


def test_the_clouds_answers_label_what_an_audit_can_see(tmp_path: Path, pairs: str) -> None:
    rows = [json.loads(line) for line in Path(pairs).read_text().splitlines()]
    other = {"intent": "other", "slots": {}}
    both = tmp_path / "both.jsonl"
    both.write_text("".join(json.dumps({**row, "cloud": other}) + "\n" for row in rows))
    assert main(["calibrate", str(both), "--certify", str(tmp_path / "rest")]) == 0
    labelled = [json.loads(line) for line in (tmp_path / "rest").read_text().splitlines()]
    assert {row["disagreement"] for row in labelled} == {True}  # though two thirds are right
    assert not any("wrong" in row for row in labelled)
    cloud = tmp_path / "cloud.jsonl"
    cloud.write_text("".join(json.dumps({"prompt": row["prompt"], "cloud": row["completion"]}) + "\n" for row in rows))
    assert main(["calibrate", str(cloud), "--certify", str(tmp_path / "agreement")]) == 0
    labelled = [json.loads(line) for line in (tmp_path / "agreement").read_text().splitlines()]
    assert {row["disagreement"] for row in labelled} == {True, False}


def test_mistakes_are_one_line(capsys: pytest.CaptureFixture[str], tmp_path: Path, pairs: str) -> None:
    assert "--write needs --model" in refused(capsys, pairs, "--write")
    assert "already exists" in refused(capsys, pairs, "--certify", pairs)
    assert "cannot be read" in refused(capsys, "absent")
    assert "cannot be calibrated" in refused(capsys, pairs, "--model", "absent")
    few = tmp_path / "few.jsonl"
    few.write_text('{"prompt": "wake me", "completion": "x"}\n')
    assert "at least 20 rows" in refused(capsys, str(few))
    for line in ("{", "[]", '{"prompt": "x"}', '{"prompt": 3, "completion": "x"}'):
        few.write_text(f'\n{{"prompt": "wake me", "completion": "x"}}\n{line}\n')
        assert "few.jsonl:3: expected" in refused(capsys, str(few))
    few.write_text('{"prompt": " ", "completion": "x"}\n')
    assert "the prompt is empty" in refused(capsys, str(few))


def test_answers_are_compared_by_what_they_say() -> None:
    assert same('{"intent": "a", "slots": {"time": "Six"}}', {"slots": {"time": ["six"]}, "intent": "a"})
    assert same('{"intent": "none"}', {"intent": "none", "slots": {}})
    assert same("A  story.", "a story.")
    assert not same('{"intent": "a", "slots": {"time": "six"}}', {"intent": "a", "slots": {"time": "seven"}})
    assert not same("a", "b")


def test_a_report_draws_what_was_found(tmp_path: Path, pairs: str) -> None:
    page = tmp_path / "page.html"
    assert main(["calibrate", pairs, "--report", str(page)]) == 0
    text = page.read_text()
    assert "Reliability" in text
    assert "chosen:" in text
    assert not any(utterance in text for utterance in UTTERANCES)
