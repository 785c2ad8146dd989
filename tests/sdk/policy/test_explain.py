from __future__ import annotations

from dataclasses import replace

from hypothesis import given

import strategies
from leanto import Decision, Policy, Snapshot
from leanto.policy import Facts, Spent, decide
from leanto.policy.explain import device


def decision(policy: Policy, facts: Facts, snapshot: Snapshot, spent: Spent) -> Decision:
    found = decide(policy, facts, snapshot, spent)
    return Decision("r1", policy.hash, "e", None, facts.task, facts.privacy, snapshot, found.checks, found.start or "none", found.labels)


@given(strategies.policies, strategies.facts, strategies.snapshots, strategies.spendings)
def test_every_check_is_one_line_with_its_verdict(policy: Policy, facts: Facts, snapshot: Snapshot, spent: Spent) -> None:
    found = decision(policy, facts, snapshot, spent)
    lines = found.explain().splitlines()
    for check in found.checks:
        assert any(check.name in line and check.stage in line for line in lines)
    assert len(lines) == 3 + len(found.checks)


def test_the_first_veto_and_the_device_are_named() -> None:
    facts = Facts("call", "personal", 5, ("call",), 64, cloud_configured=True)
    text = decision(Policy(), facts, Snapshot(9.0, False, 0.5, 2**30, None, "up"), Spent()).explain()
    assert "battery 9% unplugged, load 0.50, memory 1024 MiB free, temperature unknown, link up" in text
    assert "because battery  (first veto: budgets.battery_percent)" in text


def test_cost_and_confidence_are_told_once_there_are_any() -> None:
    facts = Facts("call", "personal", 5, ("call",), 64, cloud_configured=True)
    done = replace(decision(Policy(), facts, Snapshot(), Spent()), total_ms=12.0, confidence=0.5, local_tokens=3)
    text = done.explain()
    assert "confident 0.500 (uncalibrated mean token probability)" in text
    calibrated = replace(done, calibrated=True, ece=0.0561).explain()
    assert "confident 0.500 (calibrated, expected calibration error 0.056)" in calibrated
    assert "12.0 ms, tokens 3 local, 0 cloud, 0 wasted, 0 bytes sent, energy n/a" in text


def test_what_few_machines_can_tell_is_shown_where_it_can_be_told() -> None:
    seen = Snapshot(battery_power_w=6.3, memory_pressure=0.125, throttled=True, metered=True, rtt_ms=310.0)
    assert device(seen).endswith("drawing 6.3 W, waiting for memory 12% of the time, throttled, metered, round trip 310 ms")
    assert device(Snapshot()).endswith("link unknown")
