from __future__ import annotations

import math
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

import strategies
from leanto import Policy, Snapshot
from leanto.decision import Promise
from leanto.policy import (
    Facts,
    Spent,
    Verdict,
    after_fault,
    decide,
    foresee,
    judge_answer,
    judge_probe,
    judge_stream,
    judge_structure,
    stay,
    without_edge,
)
from leanto.policy.schema import Budgets, Offline

FACTS = Facts("call", "personal", 8, ("call", "text"), 256, cloud_configured=True)
FINE = Snapshot(80.0, True, 0.2, 10**9, 40.0, "up")


def verdict(facts: Facts = FACTS, snapshot: Snapshot = FINE, policy: Policy | None = None, sent: int = 0) -> Verdict:
    return decide(policy or Policy(), facts, snapshot, Spent(sent))


def assert_only_narrows(found: Verdict) -> None:
    """No check hands back a target, but for the edge as last resort after a fault, within what the constraints left."""
    allowed = {"local", "cloud"}
    for check in found.checks:
        if check.stage == "offline":
            allowed = set(found.constrained) | allowed
        assert set(check.allowed_after) <= allowed
        allowed = set(check.allowed_after)
    assert set(found.allowed) == allowed
    assert set(found.allowed) <= set(found.constrained)


@given(strategies.policies, strategies.facts, strategies.snapshots, strategies.spendings)
def test_a_stage_never_allows_what_an_earlier_one_removed(policy: Policy, facts: Facts, snapshot: Snapshot, spent: Spent) -> None:
    assert_only_narrows(decide(policy, facts, snapshot, spent))


@given(strategies.policies, strategies.facts, strategies.snapshots, strategies.spendings)
def test_a_closed_policy_lets_nothing_leave_and_says_why(policy: Policy, facts: Facts, snapshot: Snapshot, spent: Spent) -> None:
    found = decide(replace(policy, closed="p.toml:3: half a file"), facts, snapshot, spent)
    assert "cloud" not in found.constrained
    assert not found.offline
    check = next(check for check in found.checks if check.name == "policy_file")
    assert check.value == "p.toml:3: half a file"
    assert check.verdict == ("veto" if "policy-closed" in found.labels else "moot")
    taken = decide(policy, facts, snapshot, spent)
    assert taken.allowed == found.allowed or "cloud" in taken.allowed or taken.offline  # a link that is down may fail it, an edit does not


judgements = st.lists(
    st.one_of(
        st.tuples(st.just("probe"), st.floats(0, 1)),
        st.tuples(st.just("stream"), st.none() | st.floats(-30, 0)),
        st.tuples(st.just("answer"), st.floats(0, 1)),
        st.tuples(st.just("structure"), st.booleans()),
        st.tuples(st.just("stay"), st.none()),
        st.tuples(st.just("fault"), st.booleans()),
        st.tuples(st.just("edge"), st.none()),
        st.tuples(st.just("foresee"), st.none()),
    ),
    max_size=8,
)


@settings(max_examples=300)
@given(strategies.policies, strategies.facts, strategies.snapshots, strategies.spendings, judgements)
def test_a_private_request_never_allows_the_cloud_whatever_else_happens(
    policy: Policy, facts: Facts, snapshot: Snapshot, spent: Spent, steps: list[tuple[str, float | bool | None]]
) -> None:
    found = decide(policy, replace(facts, privacy="secret"), snapshot, spent)
    for name, value in steps:
        found = _apply(policy, found, facts, name, value)
    assert "cloud" not in found.constrained
    assert all("cloud" not in check.allowed_after for check in found.checks)


@settings(max_examples=300)
@given(strategies.policies, strategies.facts, strategies.snapshots, strategies.spendings, judgements)
def test_no_sequence_of_judgements_and_faults_widens_what_the_constraints_left(
    policy: Policy, facts: Facts, snapshot: Snapshot, spent: Spent, steps: list[tuple[str, float | bool | None]]
) -> None:
    found = decide(policy, facts, snapshot, spent)
    before = found.constrained
    for name, value in steps:
        found = _apply(policy, found, facts, name, value)
        assert set(found.constrained) <= set(before)
        assert set(found.allowed) <= set(found.constrained)


def _apply(policy: Policy, found: Verdict, facts: Facts, name: str, value: float | bool | None) -> Verdict:
    match name:
        case "stream":
            return judge_stream(policy, found, value)
        case "probe":
            return judge_probe(policy, found, float(value or 0), 0.5)
        case "answer":
            return judge_answer(policy, found, facts.task, float(value or 0), 0.5, Promise())
        case "structure":
            return judge_structure(policy, found, bool(value))
        case "stay":
            return stay(found, "max_switches", 1, 1, "max-switches", "no more")
        case "fault":
            return after_fault(policy, found, "cloud-unreachable", "gone", again=bool(value))
        case "edge":
            return without_edge(found, "edge-failed", "broken")
        case _:
            return foresee(policy, found, facts, 0.5, Promise())


def test_on_a_healthy_device_both_targets_are_left_and_the_edge_starts() -> None:
    assert verdict().allowed == ("local", "cloud")
    assert verdict().start == "local"


def test_a_low_battery_removes_the_edge_only_when_unplugged() -> None:
    low = replace(FINE, battery_percent=9.0, plugged=False)
    assert verdict(snapshot=low).allowed == ("cloud",)
    assert verdict(snapshot=low).labels == ("battery",)
    assert verdict(snapshot=replace(low, plugged=True)).allowed == ("local", "cloud")
    assert verdict(snapshot=replace(low, plugged=None)).allowed == ("cloud",)


def test_an_unknown_signal_vetoes_nothing_and_says_so() -> None:
    found = verdict(snapshot=Snapshot())
    assert found.allowed == ("local", "cloud")
    unknown = {check.name for check in found.checks if check.verdict == "unknown"}
    assert unknown == {"link", "battery_percent", "temperature_c"}


def test_a_policy_may_hold_unknown_signals_against_the_device_but_not_a_battery_that_is_not_needed() -> None:
    policy = Policy(budgets=Budgets(unknown_signals="fail"))
    found = verdict(snapshot=Snapshot(), policy=policy)
    assert (found.allowed, found.labels) == (("cloud",), ("battery",))
    assert {check.name: check.verdict for check in found.checks}["temperature_c"] == "moot"
    assert verdict(snapshot=Snapshot(plugged=True, temperature_c=40.0), policy=policy).labels == ()
    mains = Policy(budgets=Budgets(unknown_signals="fail", battery_floor_percent=0))
    assert verdict(snapshot=Snapshot(temperature_c=40.0), policy=mains).labels == ()


def test_heat_and_load_lean_too() -> None:
    assert verdict(snapshot=replace(FINE, temperature_c=95.0)).labels == ("temperature",)
    assert verdict(snapshot=replace(FINE, cpu_load=50.0)).labels == ()
    assert verdict(snapshot=replace(FINE, cpu_load=50.0), policy=Policy(budgets=Budgets(max_cpu_load=8.0))).labels == ("load",)


def test_an_unfit_edge_leans_wherever_it_may_and_is_labelled_where_it_may_not() -> None:
    unfit = replace(FACTS, edge_fit=False)
    found = verdict(unfit)
    assert (found.allowed, found.labels) == (("cloud",), ("unfit",))
    assert [(check.name, check.verdict) for check in found.checks if check.name == "edge_fit"] == [("edge_fit", "veto")]
    alone = verdict(replace(unfit, privacy="secret"))
    assert (alone.allowed, alone.labels) == (("local",), ("private", "unfit"))


def test_a_private_request_on_a_low_battery_is_answered_locally_and_labelled() -> None:
    found = verdict(replace(FACTS, privacy="secret"), replace(FINE, battery_percent=9.0, plugged=False))
    assert (found.allowed, found.labels) == (("local",), ("private", "battery"))
    assert next(check.verdict for check in found.checks if check.name == "battery_percent") == "waived"


def test_an_unknown_privacy_class_is_treated_as_secret() -> None:
    assert verdict(replace(FACTS, privacy="unheard-of")).allowed == ("local",)


def test_the_link_matters_only_where_the_cloud_may_answer() -> None:
    down = replace(FINE, link="down")
    assert verdict(snapshot=down).offline
    assert not verdict(replace(FACTS, privacy="secret"), down).offline
    assert not verdict(replace(FACTS, cloud_configured=False), down).offline


def test_a_spent_byte_budget_closes_the_cloud_for_good() -> None:
    policy = Policy(budgets=Budgets(cloud_bytes_per_session=100))
    assert verdict(policy=policy, sent=99).allowed == ("local", "cloud")
    spent = verdict(policy=policy, sent=100)
    assert (spent.allowed, spent.constrained, spent.labels) == (("local",), ("local",), ("egress-spent",))


def test_a_task_or_a_prompt_that_the_edge_cannot_take_goes_to_the_cloud() -> None:
    assert verdict(replace(FACTS, edge_tasks=("text",))).allowed == ("cloud",)
    assert verdict(replace(FACTS, prompt_tokens=256)).allowed == ("cloud",)


def test_with_nothing_left_the_verdict_starts_nowhere() -> None:
    found = verdict(replace(FACTS, privacy="secret", edge_tasks=("text",)))
    assert (found.allowed, found.start) == ((), None)


def test_the_policys_own_threshold_replaces_the_artifacts() -> None:
    text = judge_answer(Policy(), verdict(), "text", 0.4, 0.3, Promise())
    assert (text.allowed, text.labels) == (("local", "cloud"), ("confident",))
    assert judge_answer(Policy(), verdict(), "text", 0.2, 0.3, Promise()).allowed == ("cloud",)


def test_evidence_that_is_not_a_number_is_no_reason_to_trust() -> None:
    assert judge_answer(Policy(), verdict(), "call", math.nan, 0.5, Promise()).allowed == ("cloud",)
    assert judge_stream(Policy(), verdict(), math.nan).allowed == ("cloud",)


def test_an_uncalibrated_answer_is_kept_and_labelled() -> None:
    found = judge_answer(Policy(), verdict(), "call", 0.01, None, Promise())
    assert (found.start, found.labels) == ("local", ("uncalibrated",))


def test_offline_mode_fail_leaves_nothing_once_the_cloud_is_gone() -> None:
    policy = Policy(offline=Offline("fail"))
    assert after_fault(policy, verdict(policy=policy), "cloud-unreachable", "gone").allowed == ()
    down = verdict(snapshot=replace(FINE, link="down"), policy=policy)
    assert down.allowed == ("local",)
    assert judge_answer(policy, down, "call", 0.1, 0.5, Promise()).allowed == ()


def test_a_check_that_concerns_a_target_already_gone_is_moot() -> None:
    found = verdict(replace(FACTS, cloud_configured=False), replace(FINE, link="down"))
    assert next(check for check in found.checks if check.name == "link").verdict == "moot"
