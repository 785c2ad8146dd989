from __future__ import annotations

import operator
import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import strategies
from leanto import Policy, Snapshot, parse_policy
from leanto.decision import Target
from leanto.errors import PolicyError
from leanto.policy import Facts, Spent, Verdict, after_fault, decide
from leanto.policy.condition import MAX_CHARS, VARIABLES
from leanto.policy.schema import Offline
from leanto.policy.verdict import Finding, lean, take_away

FACTS = Facts("text", "personal", 8, ("call", "text"), 256, cloud_configured=True)
FINE = Snapshot(80.0, True, 0.2, 10**9, 40.0, "up")
KNOWN = replace(FINE, battery_power_w=5.0, memory_pressure=0.0, throttled=False, metered=False, rtt_ms=20.0)


def rule(condition: str, **more: str) -> str:
    lines = {"name": '"r"', "if": f"{condition!r}", **({"allow": '["local"]'} if "prefer" not in more else {}), **more}
    return "[[rules]]\n" + "\n".join(f"{key} = {value}" for key, value in lines.items() if value) + "\n"


def policy(*rules: str) -> Policy:
    return parse_policy("version = 1\n" + "\n".join(rules))


def verdict(found: Policy, snapshot: Snapshot = FINE, facts: Facts = FACTS) -> Verdict:
    return decide(found, facts, snapshot, Spent())


def test_a_rule_that_allows_one_target_holds_even_when_all_else_fails() -> None:
    found = policy(rule("task == 'text'", allow='["cloud"]'))
    assert verdict(found).constrained == ("cloud",)
    fallen = after_fault(found, verdict(found), "cloud-unreachable", "no connection")
    assert fallen.allowed == ()
    check = next(check for check in verdict(found).checks if check.stage == "rules")
    assert (check.name, check.value, check.threshold, check.verdict, check.flip) == ("r", True, "task == 'text'", "veto", "false")
    assert verdict(found).labels == ("rule:r",)


def test_a_preference_leaves_the_other_target_as_the_last_resort() -> None:
    found = policy(rule("prompt_tokens > 5", prefer='"cloud"'))
    assert verdict(found).allowed == ("cloud",)
    assert verdict(found).constrained == ("local", "cloud")
    assert verdict(found, replace(FINE, link="down")).allowed == ("local",)
    assert verdict(policy(rule("prompt_tokens > 5", prefer='"local"'))).allowed == ("local",)
    assert verdict(policy(rule("prompt_tokens > 8", prefer='"cloud"'))).allowed == ("local", "cloud")


@pytest.mark.parametrize(("unknown", "applies"), [("", True), ('"apply"', True), ('"skip"', False)])
def test_a_rule_says_what_an_unknown_signal_means(unknown: str, applies: bool) -> None:
    found = policy(rule("battery_percent < 20", unknown=unknown))
    assert verdict(found).allowed == ("local", "cloud")
    blind = verdict(found, replace(FINE, battery_percent=None))
    assert blind.allowed == (("local",) if applies else ("local", "cloud"))
    assert next(check for check in blind.checks if check.stage == "rules").value is None


@pytest.mark.parametrize("condition", ["metered == true", "metered != false", "metered in [true]", "!(metered == false)", "metered"])
def test_no_way_of_writing_a_condition_steps_round_an_unknown_signal(condition: str) -> None:
    blind = replace(FINE, metered=None)
    assert verdict(policy(rule(condition)), blind).constrained == ("local",)
    assert verdict(policy(rule(condition, unknown='"skip"')), blind).constrained == ("local", "cloud")
    assert verdict(policy(rule(condition)), replace(FINE, metered=False)).constrained == ("local", "cloud")


def test_an_unknown_signal_is_no_reason_to_prefer_unless_told_so() -> None:
    blind = replace(FINE, battery_percent=None)
    assert verdict(policy(rule("battery_percent < 20", prefer='"cloud"')), blind).allowed == ("local", "cloud")
    assert verdict(policy(rule("battery_percent < 20", prefer='"cloud"', unknown='"apply"')), blind).allowed == ("cloud",)
    assert verdict(policy(rule("battery_percent == null", prefer='"cloud"')), blind).allowed == ("cloud",)


def test_rules_that_leave_nothing_fail_closed() -> None:
    found = policy(rule("task == 'text'", name='"a"'), rule("prompt_tokens > 1", name='"b"', allow='["cloud"]'))
    assert verdict(found).allowed == ()


def test_a_rule_cannot_open_the_cloud_to_a_secret() -> None:
    found = policy(rule("true", allow='["cloud"]'), rule("true", name='"p"', prefer='"cloud"'))
    assert verdict(found, facts=replace(FACTS, privacy="secret")).allowed == ()


ATOMS = st.sampled_from(
    ["battery_percent < 30", "plugged", "link == 'up'", "1 / prompt_tokens > 0", "task == 'call'", "cpu_load > 1.0",
     "privacy.startsWith('p')", "temperature_c > cpu_load", "memory_available_bytes < 1000", "bytes_sent >= 100", "edge_fit"]
)  # fmt: skip
CONDITIONS = st.lists(st.tuples(st.booleans(), ATOMS, st.sampled_from([" && ", " || "])), min_size=1, max_size=4).map(
    lambda parts: "".join(("!" if no else "") + f"({atom}){link}" for no, atom, link in parts) + "true"
)
RULES = st.lists(
    st.tuples(
        CONDITIONS, st.sampled_from(["allow = ['local']", "allow = ['cloud']", "prefer = 'local'", "prefer = 'cloud'"]), st.booleans()
    ),
    max_size=5,
    unique_by=lambda entry: entry[0],
)


def written(rules: list[tuple[str, str, bool]]) -> Policy:
    texts = [
        f'[[rules]]\nname = "{i}"\nif = "{condition}"\n{what}\nunknown = "{"apply" if unknown else "skip"}"'
        for i, (condition, what, unknown) in enumerate(rules)
    ]
    return policy(*texts)


@settings(max_examples=150)
@given(RULES, strategies.facts, strategies.snapshots, strategies.spendings)
def test_rules_only_narrow_and_never_raise(rules: list[tuple[str, str, bool]], facts: Facts, snapshot: Snapshot, spent: Spent) -> None:
    with_rules, without = decide(written(rules), facts, snapshot, spent), decide(Policy(), facts, snapshot, spent)
    assert set(with_rules.constrained) <= set(without.constrained)
    allowed = {"local", "cloud"}
    for check in with_rules.checks:
        assert set(check.allowed_after) <= allowed
        allowed = set(check.allowed_after)
    if facts.privacy == "secret":
        assert "cloud" not in with_rules.constrained


@settings(max_examples=150)
@given(RULES, strategies.facts, strategies.snapshots, strategies.spendings, st.sampled_from(["local_best_effort", "fail"]))
def test_the_rules_are_applied_one_after_the_other(
    rules: list[tuple[str, str, bool]], facts: Facts, snapshot: Snapshot, spent: Spent, mode: Any
) -> None:
    ruled = replace(written(rules), offline=Offline(mode))
    before = decide(replace(ruled, rules=()), facts, snapshot, spent)
    start = Verdict(before.constrained, offline="offline" in before.labels)
    found = [check for check in decide(ruled, facts, snapshot, spent).checks if check.stage == "rules"]
    after = start
    for rule in sorted(ruled.rules, key=lambda rule: bool(rule.prefer)):  # those that allow come first
        value = next(check.value for check in found if check.name == rule.name)
        assert value is None or isinstance(value, bool)
        reason = f"prefer {rule.prefer}" if rule.prefer else f"allow {rule.allow[0]}"
        flip = "a value" if value is None else str(not value).lower()
        finding = Finding("rules", rule.name, value, rule.condition, rule.applies(value), f"rule:{rule.name}", reason, flip)
        away: Target = "local" if "cloud" in (rule.prefer, *rule.allow) else "cloud"
        after = lean(after, finding, mode, away=away) if rule.prefer else take_away(after, away, finding)
    assert tuple(found) == after.checks


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        (rule("battery < 20"), 5, "does not know 'battery'; allowed: task, privacy"),
        (rule("battery_percent <"), 5, "is not CEL"),
        (rule("battery_percent < 'low'"), 5, "cannot be evaluated"),
        (rule("battery_percent + 1.0"), 5, "is not true or false"),
        (rule("[1, 2].all(task, true)"), 5, "comprehension"),
        (rule("now() > 1"), 5, "does not know 'now'"),
        (rule("true || " * 80 + "true"), 5, f"longer than {MAX_CHARS}"),
        (rule("(" * 200 + "true" + ")" * 200), 5, "is not CEL: it is nested too deeply"),
        (rule("[" * 200 + "]" * 200 + " == []"), 5, "is not CEL: it is nested too deeply"),
        (rule("[1].existsOne(task, true)"), 5, "comprehension"),
        (rule("true || [1].all(task, true)"), 5, "comprehension"),
        (rule("task.matches('t.*')"), 5, "does not know 'matches'; allowed: task, privacy"),
        (rule("true || task.size.now"), 5, "does not know 'now'"),
        (rule("true || unknown == []"), 5, "does not know 'unknown'"),
        (rule("1 + battery_percent == null"), 5, "compares null with something else than a variable alone"),
        (rule("!plugged == null"), 5, "compares null with something else"),
        (rule("plugged in [null]"), 5, "compares null with something else"),
        (rule("true || null == null"), 5, "compares null with something else"),
        (rule("9223372036854775807 + prompt_tokens > 0"), 5, "cannot be evaluated"),
        (rule("true", name=f"'{'n' * 101}'"), 4, "at most 100 characters"),
        (rule("true", allow='["moon"]'), 6, "allow must be a list"),
        (rule("true", allow="[]"), 6, "allow must be a list"),
        (rule("true", prefer='"moon"'), 6, "prefer must be"),
        (rule("true", allow='["local"]', prefer='"local"'), 6, "give one of them"),
        (rule("true", unknown='"maybe"'), 7, "unknown must be"),
        (rule("true", name=""), 3, "name must be a text"),
        (rule("true", colour='"red"'), 7, "colour is unknown"),
        ("[rules]\nname = 1\n", 3, "expected tables"),
        (rule("true", name='"a"') + rule("false", name='"a"'), 8, "a text of its own"),
        (rule("true", name='"a"') + rule("true", name='"b"', allow='["cloud"]'), 10, "contradicts the rule 'a'"),
        (rule("plugged", name='"a"') + rule("plugged ", name='"b"', allow='["cloud"]'), 10, "contradicts the rule 'a'"),
        (rule("link=='up'", name='"a"') + rule(" link == 'up' // b", name='"b"', allow='["cloud"]'), 10, "contradicts the rule 'a'"),
        ("".join(rule("true", name=f'"{i}"') for i in range(33)), 3, "at most 32"),
    ],
)
def test_a_mistake_in_a_rule_is_an_error_with_its_line(text: str, line: int, message: str) -> None:
    with pytest.raises(PolicyError, match=re.escape(message)) as caught:
        parse_policy("version = 1\n\n" + text, origin="p.toml")
    assert caught.value.line == line


def test_rules_are_part_of_the_policys_hash() -> None:
    hashes = {policy(*rules).hash for rules in ((), (rule("true"),), (rule("false"),), (rule("true", allow='["cloud"]'),))}
    assert len(hashes) == 4
    assert policy(rule("true")).to_dict()["rules"] == [{"name": "r", "if": "true", "allow": ["local"], "unknown": "apply"}]


COMPARISONS = {"<": operator.lt, ">=": operator.ge, ">": operator.gt, "<=": operator.le}
MEASURED: dict[str, tuple[str, str]] = {
    "battery_percent": ("snapshot", "battery_percent"),
    "temperature_c": ("snapshot", "temperature_c"),
    "cpu_load": ("snapshot", "cpu_load"),
    "prompt_tokens": ("facts", "prompt_tokens"),
    "bytes_sent": ("spent", "bytes_sent"),
}


@settings(max_examples=200)
@given(strategies.policies, strategies.facts, strategies.snapshots, strategies.spendings)
def test_the_value_that_a_check_names_would_have_turned_it(found: Policy, facts: Facts, snapshot: Snapshot, spent: Spent) -> None:
    snapshot = replace(snapshot, plugged=False)
    parts: dict[str, Any] = {"facts": facts, "snapshot": snapshot, "spent": spent}
    before = decide(found, facts, snapshot, spent)
    for check in before.checks:
        if check.name in MEASURED and check.flip not in ("", "a value"):
            sign, limit = check.flip.split()
            value = float(limit) + {"<": -1, ">": 1}.get(sign, 0)
            owner, name = MEASURED[check.name]
            whole = check.name in ("prompt_tokens", "bytes_sent")
            changed = {**parts, owner: replace(parts[owner], **{name: int(value) if whole else value})}
            after = next(c for c in decide(found, *changed.values()).checks if (c.stage, c.name) == (check.stage, check.name))
            assert (after.verdict == "pass") != (check.verdict == "pass"), check


def test_every_variable_of_a_condition_has_a_value_in_every_decision() -> None:
    for name, (example, _) in VARIABLES.items():
        known = "true" if isinstance(example, bool) else f"{name} == {name}"
        assert parse_policy("version = 1\n" + rule(f"{name} != null && {known}")).rules[0].program is not None
        check = next(c for c in verdict(policy(rule(f"{name} != null")), snapshot=KNOWN).checks if c.stage == "rules")
        assert check.value is True, name
