from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import pytest

from leanto import Client, Policy, Snapshot, parse_policy
from leanto.policy import Facts, Spent, decide
from leanto.prompt_score import PromptScore
from leanto.router import Outcome, train

FINE = Snapshot(80.0, True, 0.2, 10**9, 40.0, "up")
WITH = parse_policy('version = 1\n[quality]\nrouter = "r"\nrouter_floor = 0.6\n')


def facts(score: float | None) -> Facts:
    return Facts("text", "personal", 8, ("text",), 256, cloud_configured=True, prompt_score=score)


@pytest.mark.parametrize(
    ("score", "allowed", "verdict"),
    [
        (0.7, ("local", "cloud"), "pass"),
        (0.5, ("cloud",), "veto"),
        (None, ("local", "cloud"), "unknown"),
        (float("nan"), ("cloud",), "veto"),
    ],
)
def test_a_hopeless_prompt_is_not_tried_locally(score: float | None, allowed: tuple[str, ...], verdict: str) -> None:
    found = decide(WITH, facts(score), FINE, Spent())
    assert found.allowed == allowed
    assert found.checks[-1].stage == "prompt"
    assert found.checks[-1].verdict == verdict
    assert decide(Policy(), facts(score), FINE, Spent()).allowed == ("local", "cloud")


def test_a_hopeless_prompt_that_is_private_is_tried_all_the_same(tmp_path: Path) -> None:
    words = ("easy", "simple", "short", "plain"), ("hard", "deep", "long", "strange")
    rows = [Outcome(f"a {words[i % 2][i // 2 % 4]} question {i}", float(i % 2)) for i in range(400)]
    train(rows).save(tmp_path / "router.safetensors")
    (tmp_path / "p.toml").write_text('version = 1\n[quality]\nrouter = "router.safetensors"\nrouter_floor = 0.5\n')
    with Client(policy=tmp_path / "p.toml") as client:
        checks = {word: client.explain(f"a {word} question 7").checks for word in ("easy", "hard")}
    found = {word: next(check for check in given if check.stage == "prompt") for word, given in checks.items()}
    assert found["easy"].verdict == "pass"
    assert found["hard"].verdict == "waived"
    assert found["hard"].allowed_after == ("local",)


def test_a_router_that_cannot_be_read_leaves_the_score_unknown(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "p.toml").write_text('version = 1\n[quality]\nrouter = "absent"\n')
    with caplog.at_level(logging.WARNING, "leanto"), Client(policy=tmp_path / "p.toml") as client:
        for _ in range(3):
            check = next(check for check in client.explain("hello").checks if check.stage == "prompt")
            assert (check.value, check.verdict) == (None, "unknown")
    assert len([record for record in caplog.records if "no prompt is scored" in record.getMessage()]) == 1


def test_a_router_that_is_replaced_is_read_again(tmp_path: Path) -> None:
    words = ("easy", "simple", "short", "plain"), ("hard", "deep", "long", "strange")

    def save(gains: tuple[float, float]) -> None:
        rows = [Outcome(f"a {words[i % 2][i // 2 % 4]} question {i}", gains[i % 2]) for i in range(400)]
        train(rows).save(tmp_path / "new")
        (tmp_path / "new").replace(tmp_path / "r")

    policy, scores = replace(WITH, origin=str(tmp_path / "p.toml")), PromptScore()
    save((0.0, 1.0))
    assert (before := scores.of(policy, "a hard question 7")) is not None
    name = scores.name
    save((1.0, 0.0))
    assert (after := scores.of(policy, "a hard question 7")) is not None
    assert after > before
    assert scores.name != name
