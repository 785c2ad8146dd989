from __future__ import annotations

import json
from dataclasses import asdict

from hypothesis import given

import strategies
from leanto import Policy, Snapshot
from leanto.decision import Decision, Facts, Promise, Spent
from leanto.policy import decide


@given(strategies.policies, strategies.facts, strategies.snapshots, strategies.spendings)
def test_a_record_as_plain_values_is_what_asdict_makes_of_it(policy: Policy, facts: Facts, snapshot: Snapshot, spent: Spent) -> None:
    verdict = decide(policy, facts, snapshot, spent)
    known = {"facts": facts, "spent": spent, "promise": Promise(0.5)}
    decision = Decision("id", policy.hash, "edge", None, "call", facts.privacy, snapshot, verdict.checks, "local", verdict.labels, **known)  # type: ignore[arg-type]
    assert decision.to_dict() == {**asdict(decision), "label": decision.label}
    assert json.loads(json.dumps(decision.to_dict()))["checks"][0]["stage"] == "constraints"
