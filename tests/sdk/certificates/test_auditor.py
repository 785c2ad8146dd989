"""Certified answers are asked again where their users consented; a promise that does not hold loses its threshold, for good."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from asking import BETTER, CALL
from fakes import FakeCloud, FakeEdge, FakeMeter, UntouchableCloud, call_tokens, chunks, fault
from leanto import AsyncClient, CloudUnavailable, Decision, Policy
from leanto.cli import main
from leanto.errors import OutputError, PolicyError
from leanto.ledger import Ledger
from leanto.policy import load_policy, parse_policy
from promises import PROMISE, PUBLIC


@pytest.fixture
def policy(tmp_path: Path) -> Policy:
    (tmp_path / "call.json").write_text(PROMISE)
    (tmp_path / "p.toml").write_text(
        f'version = 1\n[quality]\ncertificates = ["call.json"]\ncertificate_key = "{PUBLIC}"\n'
        '[targets.cloud]\naddress = "127.0.0.1:1"\nmodel = "fake-large"\nusd_per_million_answer_tokens = 1e6\n'
        '[quality.confidence_threshold]\ncall = 0.1\n[audit]\nshare = 1.0\nclasses = ["personal"]\n'
    )
    return load_policy(tmp_path / "p.toml")


def asked(policy: Policy, cloud: Any, ledger: Ledger | Path, times: int = 1, **options: Any) -> list[Decision]:
    """Each answer is audited before the next is asked for."""
    edge = FakeEdge(call_tokens(CALL))  # mean token probability .95

    async def run() -> list[Decision]:
        decisions = []
        async with AsyncClient(model=edge, cloud=cloud, policy=policy, sources=(), meter=FakeMeter(None), ledger=ledger) as client:
            for _ in range(times):
                decisions.append((await client.ask("when do I wake", **options)).decision)
                await client._auditor.close()
        return decisions

    return asyncio.run(run())


def test_an_audited_answer_is_written_down_and_paid_for(policy: Policy, tmp_path: Path) -> None:
    ledger = Ledger()
    cloud = FakeCloud(chunks(CALL))
    (decision,) = asked(policy, cloud, ledger)
    assert (decision.route, decision.audited, decision.bytes_sent, decision.usd) == ("local", True, 0, 0.0)
    (audit,) = ledger.audits().values()
    assert (audit.audited, audit.worse, audit.alpha, audit.delta) == (1, 0, 0.05, 0.05)
    spent = ledger.last_day()
    assert (spent.calls, spent.bytes_sent, spent.usd) == (1, 100, len(chunks(CALL)))
    assert cloud.requests[0].prefix == ""
    assert cloud.calls[0].closed


def test_answers_that_say_the_same_in_another_way_are_not_worse(policy: Policy) -> None:
    ledger = Ledger()
    asked(policy, FakeCloud(chunks('{"slots": {}, "intent": "Alarm_Query"}')), ledger)
    assert next(iter(ledger.audits().values())).worse == 0


def test_an_alarm_raises_the_threshold_then_sends_everything_to_the_cloud_and_outlives_a_restart(policy: Policy, tmp_path: Path) -> None:
    first = asked(policy, FakeCloud(chunks(BETTER)), tmp_path / "ledger", times=30)
    thresholds = [next(check.threshold for check in decision.checks if check.stage == "certificate") for decision in first]
    assert thresholds == sorted(thresholds, key=[0.5, 0.8, True].index)
    assert set(thresholds) == {0.5, 0.8, True}
    tightened = first[thresholds.index(0.8)]
    assert "tightened" in tightened.labels
    assert "(alarms: 1)" in next(check.reason for check in tightened.checks if check.stage == "certificate")
    assert (first[-1].route, first[-1].audited) == ("local→cloud", False)
    assert "audit-alarm" in first[-1].labels
    (again,) = asked(policy, FakeCloud(chunks(BETTER)), tmp_path / "ledger")
    assert again.route == "local→cloud"
    (private,) = asked(policy, UntouchableCloud(), tmp_path / "ledger", private=True)
    assert (private.route, "audit-alarm" in private.labels) == ("local", True)


def test_the_draw_is_in_the_record_with_what_would_have_turned_it(policy: Policy) -> None:
    half = replace(policy, audit=replace(policy.audit, share=0.5))
    drawn = [
        next(check for check in decision.checks if check.stage == "audit")
        for decision in asked(half, FakeCloud(chunks(CALL)), Ledger(), times=12)
    ]
    for check in drawn:
        assert (check.name, check.threshold, isinstance(check.value, float)) == ("draw", 0.5, True)
        chosen = float(check.value or 0) < 0.5
        assert (check.verdict, check.flip) == (("pass", ">= 0.5") if chosen else ("skipped", "< 0.5"))


@pytest.mark.parametrize(
    ("asks", "change"),
    [
        ({"private": True}, {}),
        ({"privacy": "public"}, {}),
        ({"temperature": 0.5}, {}),
        ({}, {"share": 0.0}),
    ],
)
def test_without_consent_or_a_promise_nothing_is_asked_again(policy: Policy, asks: dict[str, Any], change: dict[str, Any]) -> None:
    ledger = Ledger()
    decisions = asked(replace(policy, audit=replace(policy.audit, **change)), UntouchableCloud(), ledger, times=3, **asks)
    assert [decision.audited for decision in decisions] == [False] * 3
    assert ledger.audits() == {}


def test_a_spent_budget_ends_the_audits_too(policy: Policy) -> None:
    ledger = Ledger()
    tight = replace(policy, budgets=replace(policy.budgets, cloud_calls_per_day=2))
    asked(tight, FakeCloud(chunks(CALL)), ledger, times=5)
    assert next(iter(ledger.audits().values())).audited == 2
    assert ledger.last_day().calls == 2


@pytest.mark.parametrize("script", [[fault(CloudUnavailable)], chunks(CALL, finish=None), []])
def test_an_audit_that_fails_says_nothing_of_the_promise(policy: Policy, script: list[Any]) -> None:
    ledger = Ledger()
    (decision,) = asked(policy, FakeCloud(script), ledger)
    assert decision.route == "local"
    assert ledger.audits() == {}
    assert ledger.last_day().calls == 1


def test_a_ledger_that_can_no_longer_be_read_leaves_no_promise(policy: Policy) -> None:
    ledger = Ledger()
    ledger.close()
    (decision,) = asked(policy, FakeCloud(chunks(BETTER)), ledger)
    assert decision.route == "local→cloud"
    assert "audit-alarm" in decision.labels


@pytest.mark.parametrize(
    ("written", "line", "message"),
    [
        ('[audit]\nshare = 0.1\nclasses = ["public"]\n[quality]\ncertificates = []', 3, "needs quality.certificates"),
        ('[audit]\nclasses = ["secret"]', 3, "the cloud may not answer secret"),
        ('[audit]\nclasses = ["nobody"]', 3, "the cloud may not answer nobody"),
        (f'[audit]\nshare = 0.1\n[quality]\ncertificates = ["a"]\ncertificate_key = "{PUBLIC}"', 3, "whose users consented"),
    ],
)
def test_an_audit_nobody_consented_to_is_a_mistake(written: str, line: int, message: str) -> None:
    with pytest.raises(PolicyError, match=message) as caught:
        parse_policy(f"version = 1\n{written}\n")
    assert caught.value.line == line


def test_the_command_shows_every_audit_and_fails_after_an_alarm(policy: Policy, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked(policy, FakeCloud(chunks(CALL)), tmp_path / "good", times=2)
    assert main(["audit", str(tmp_path / "good")]) == 0
    assert "0 of 2 differ, at most 5.00% promised" in capsys.readouterr().out
    asked(policy, FakeCloud(chunks(BETTER)), tmp_path / "bad", times=30)
    assert main(["audit", str(tmp_path / "bad")]) == 1
    assert capsys.readouterr().out.count("ALARM") == 2
    assert main(["audit", str(tmp_path / "none")]) == 2


def test_states_that_were_tampered_with_are_an_error_and_an_alarm(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "l")
    ledger.observe("a", False, alpha=0.05, delta=0.05)
    ledger._database.execute("UPDATE audit SET state = '{}'")
    assert ledger.alarmed("a")
    assert ledger.observe("a", False, alpha=0.05, delta=0.05) is None
    with pytest.raises(OutputError, match="audits cannot be read"):
        ledger.audits()
