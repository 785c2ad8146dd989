from __future__ import annotations

import base64
import json
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

import strategies
from decisions import CLOUDY, FACTS, FINE, LOG, line, threshold
from leanto import Client, Decision, Policy, Snapshot, parse_policy
from leanto.certificates.certificate import Certificate, Point, sign
from leanto.cli import main
from leanto.decision import SAMPLED, Promise
from leanto.errors import UserError
from leanto.policy import Facts, Spent, decide, judge_answer, judge_certificate, load_policy
from leanto.policy.figures import Costs, Course
from leanto.policy.logged import Logged, read_log
from leanto.policy.replay import Replayer, Unreplayable, replay
from leanto.prompt_score import router_name


def route_under(policy: Policy, entry: Logged) -> str:
    return Replayer(policy).course(entry).route


def test_a_log_under_a_policy_like_its_own_costs_what_it_cost() -> None:
    found = replay(LOG[:2], Policy())
    assert found.before == found.after
    assert (found.before.local_share, found.before.p50_ms, found.before.p95_ms, found.before.joules) == (1.0, 10.0, 10.0, 2.0)
    assert found.before.risk == pytest.approx(0.25)
    assert found.moved == found.after.estimated == 0


def test_a_stricter_threshold_leans_and_pays() -> None:
    found = replay(LOG, threshold(0.7)).after
    assert found.local_share == pytest.approx(1 / 3)
    assert found.p95_ms == 110.0
    assert found.usd == pytest.approx(0.02)
    assert found.risk == pytest.approx(0.1)
    assert (found.estimated, found.unreplayable) == (1, 0)


def test_a_request_that_the_edge_never_tried_is_counted_and_not_guessed() -> None:
    found = replay(LOG, parse_policy("version = 1\n[budgets]\nbattery_floor_percent = 1\n"))
    assert found.routes == ("local", "local", None)
    assert found.after.requests == found.before.requests == 2
    assert found.after.unreplayable == 1
    assert list(found.unreplayable.values()) == [1]


def test_nothing_is_missing_where_it_makes_no_difference() -> None:
    alone = [replace(LOG[2], facts=replace(FACTS, cloud_configured=False))]
    assert replay(alone, parse_policy("version = 1\n[budgets]\nbattery_floor_percent = 1\n")).routes == ("local",)


def test_a_log_of_which_nothing_can_be_replayed_says_why() -> None:
    with pytest.raises(UserError, match="1 × the edge did not try it"):
        replay(LOG[2:], parse_policy("version = 1\n[budgets]\nbattery_floor_percent = 1\n"))


def test_a_cloud_that_failed_would_have_failed_again() -> None:
    entry = line(confidence=0.2, cloud_failed=True)
    assert route_under(Policy(), entry) == "local"
    assert route_under(parse_policy('version = 1\n[offline]\nmode = "fail"\n'), entry) == "none"


HURRIED = parse_policy("version = 1\n[budgets]\ndeadline_ms = 50\n")


def hurried(deadline_ms: int, more: str = "") -> Policy:
    return parse_policy(f"version = 1\n[budgets]\ndeadline_ms = {deadline_ms}\n{more}")


def test_an_edge_that_takes_longer_than_the_deadline_answers_nobody() -> None:
    found = replay([line(total_ms=20.0), line(total_ms=70.0)], HURRIED).after
    assert (found.local_share, found.unanswered, found.p95_ms) == (0.5, 1, 50)
    assert replay([line(total_ms=20.0)] * 3, hurried(1)).after.unanswered == 3


CLOUD_TAKES_100 = [line(), line("cloud", None, snapshot=CLOUDY, total_ms=100.0)]
STRICT = "[quality.confidence_threshold]\ncall = 0.95\n"


def test_a_cloud_that_is_late_has_the_edge_answer_or_nobody() -> None:
    in_time, late = hurried(150, STRICT), hurried(100, STRICT)
    replayer = [Replayer(policy, costs=Costs(CLOUD_TAKES_100)) for policy in (in_time, late)]
    assert [one.course(CLOUD_TAKES_100[0]) for one in replayer] == [Course("local→cloud"), Course("local", ms=10 + 0.8 * 90)]
    fails = Replayer(hurried(100, STRICT + '[offline]\nmode = "fail"\n'), costs=Costs(CLOUD_TAKES_100)).course(CLOUD_TAKES_100[0])
    assert fails == Course("local→cloud", answered=False, ms=10 + 0.8 * 90)


def test_a_late_cloud_leaves_an_untried_edge_what_is_left() -> None:
    slow_edge = [line(total_ms=30.0), CLOUD_TAKES_100[1]]
    ends = {ms: Replayer(hurried(ms), costs=Costs(slow_edge)).course(slow_edge[1]).route for ms in (130, 120, 60)}
    assert ends == {130: "cloud", 120: "none", 60: "none"}
    assert Replayer(hurried(120), costs=Costs(CLOUD_TAKES_100)).course(CLOUD_TAKES_100[1]) == Course("local", ms=96 + 10)
    with pytest.raises(Unreplayable, match="how long the edge"):
        Replayer(hurried(120), costs=Costs(CLOUD_TAKES_100[1:])).course(CLOUD_TAKES_100[1])


def test_an_edge_that_shows_in_time_that_it_is_too_slow_is_given_up_at_half_of_the_deadline() -> None:
    slow = line(total_ms=70.0, local_tokens=40, lowest=-0.1, window=16)
    quick = [line("cloud", None, total_ms=10.0)]
    assert Replayer(HURRIED, costs=Costs(quick)).course(slow) == Course("local→cloud")
    assert Replayer(HURRIED, costs=Costs(CLOUD_TAKES_100)).course(slow) == Course("local→cloud", answered=False, ms=50)
    assert Replayer(HURRIED, costs=Costs(quick)).course(replace(slow, local_tokens=4)) == Course("local", answered=False, ms=50)
    alone = replace(slow, facts=replace(FACTS, cloud_configured=False))
    assert Replayer(HURRIED, costs=Costs(quick)).course(alone) == Course("local", answered=False, ms=50)


def test_an_answer_within_the_second_half_of_the_deadline_might_have_been_given_up() -> None:
    near = line(total_ms=40.0, local_tokens=40, lowest=-0.1, window=16)
    with pytest.raises(Unreplayable, match="how long the answer might have become"):
        route_under(HURRIED, near)
    assert route_under(HURRIED, replace(near, facts=replace(FACTS, cloud_configured=False))) == "local"


def test_the_timeout_of_the_target_counts_too() -> None:
    target = 'version = 1\n[targets.cloud]\naddress = "node.example:443"\ntimeout_ms = 80\n[offline]\nmode = "fail"\n'
    assert Replayer(parse_policy(target)).course(CLOUD_TAKES_100[1]) == Course("cloud", answered=False, ms=80)


def test_whether_a_deadline_is_kept_is_not_known_where_times_are_not() -> None:
    found = replay(LOG[:2], threshold(0.7)).after
    assert (found.unpriced, found.unanswered) == (1, None)


def test_an_edge_that_was_cut_off_is_cut_off_again_and_with_more_time_nobody_knows() -> None:
    late = line("local", None, error="DeadlineExceeded", edge_late=True, total_ms=50.0, facts=replace(FACTS, cloud_configured=False))
    assert replay([late], HURRIED).after.unanswered == replay([late], HURRIED).before.unanswered == 1
    for cut in (late, replace(late, route="none", local_tokens=0)):
        with pytest.raises(Unreplayable, match="how long the edge"):
            Replayer(hurried(60)).course(cut)


def test_the_same_policy_cuts_off_the_same_request_whatever_it_did_not_measure() -> None:
    late = line("local", None, promise=None, error="DeadlineExceeded", edge_late=True, total_ms=50.0)
    with pytest.raises(Unreplayable, match="the stream was not watched"):
        Replayer(HURRIED).course(late)
    assert Replayer(HURRIED).course(replace(late, policy_hash=HURRIED.hash)) == Course("local", answered=False)


def test_a_late_cloud_may_not_be_late_with_more_time() -> None:
    late = line("local", 0.2, cloud_failed=True, cloud_late=True, total_ms=60.0)
    assert Replayer(HURRIED, costs=Costs([line()])).course(late) == Course("local", ms=10 + 0.8 * 40)
    with pytest.raises(Unreplayable, match="more time"):
        route_under(Policy(), late)


def test_a_request_that_was_cancelled_is_answered_by_nobody_and_elsewhere_cannot_be_told() -> None:
    left = line("cloud", None, error="cancelled", snapshot=CLOUDY)
    assert Replayer(Policy()).course(left) == Course("cloud", answered=False)
    with pytest.raises(Unreplayable, match="its caller had left"):
        Replayer(Policy()).course(replace(left, facts=replace(FACTS, cloud_configured=False)))


def test_what_failed_for_no_known_reason_fails_on_the_same_way_alone() -> None:
    failed = line("local", 0.9, error="ModelError")
    assert route_under(Policy(), failed) == "none"
    assert route_under(threshold(0.95), failed) == "local→cloud"


def test_an_edge_that_broke_breaks_again_and_the_cloud_may_take_over() -> None:
    broke = line("local", None, error="EngineFault", edge_failed=True, local_tokens=3)
    assert route_under(Policy(), broke) == "local→cloud"
    assert route_under(parse_policy("version = 1\n[handoff]\nmax_switches = 0\n"), broke) == "none"


def test_a_request_without_an_answer_counts_as_such_before_and_prices_nothing() -> None:
    log = [line(), line(error="ModelError", total_ms=500.0), line(confidence=0.6)]
    found = replay(log, threshold(0.7))
    assert (found.before.unanswered, found.before.local_share) == (1, pytest.approx(2 / 3))
    assert Costs(log).ms("call", "local") == 10.0


def test_an_answer_that_was_broken_off_would_have_been_again() -> None:
    for broken in ({"no_json": True}, {"repeats": 5}):
        entry = line("local→cloud", None, promise=None, lowest=None, local_tokens=40, **broken)
        assert route_under(Policy(), entry) == "local→cloud"
    with pytest.raises(Unreplayable):
        route_under(parse_policy("version = 1\n[handoff]\nmax_repeats = 9\n"), entry)


def test_an_answer_that_was_given_up_as_too_slow_would_have_been_again() -> None:
    entry = line("local→cloud", None, promise=None, local_tokens=40, slow_ms=45_000.0, slow_for_ms=30_000.0)
    assert route_under(Policy(), entry) == "local→cloud"
    with pytest.raises(Unreplayable):
        route_under(parse_policy("version = 1\n[budgets]\ndeadline_ms = 50000\n"), entry)


def test_a_router_is_replayed_where_it_scored_the_prompt(tmp_path: Path) -> None:
    (tmp_path / "router").write_bytes(b"one")
    (tmp_path / "p.toml").write_text('version = 1\n[quality]\nrouter = "router"\nrouter_floor = 0.5\n')
    policy = load_policy(tmp_path / "p.toml")
    scored = replace(FACTS, prompt_score=0.1, router=router_name(tmp_path / "router"))
    assert route_under(policy, line(facts=scored)) == "cloud"
    assert route_under(policy, line(facts=replace(scored, prompt_score=0.9))) == "local"
    with pytest.raises(Unreplayable, match="router did not score"):
        route_under(policy, line(facts=replace(scored, router="another")))


def test_a_certificate_is_asked_for_this_build_confidence_and_cloud(tmp_path: Path) -> None:
    key = Ed25519PrivateKey.generate()
    one = Certificate("call", "build", "large", "s", "disagreement", 0.05, 1000, (Point(0.05, 0.95, 0.5, 0.04),), 0.0, 100.0)
    (tmp_path / "c").write_text(sign(one, key))
    public = base64.b64encode(key.public_key().public_bytes_raw()).decode()
    (tmp_path / "p.toml").write_text(f'version = 1\n[quality]\ncertificates = ["c"]\ncertificate_key = "{public}"\nuncertified = "cloud"\n')
    policy = load_policy(tmp_path / "p.toml")
    named = line(facts=replace(FACTS, score="s"), edge_build="build", cloud_model="large")
    assert Replayer(policy, now=50.0).course(replace(named, confidence=0.97)).route == "local"
    assert Replayer(policy, now=50.0).course(named).route == "local→cloud"
    assert Replayer(policy, now=200.0).course(replace(named, confidence=0.97)).route == "local→cloud"  # it has expired
    sampled = replace(named, confidence=0.97, promise=Promise(why_not=SAMPLED, named=True))
    assert Replayer(policy, now=50.0).course(sampled).route == "local→cloud"
    with pytest.raises(Unreplayable, match="what was certified"):
        Replayer(policy, now=50.0).course(replace(named, confidence=0.97, facts=FACTS))


def test_a_policy_that_leaves_nothing_is_seen() -> None:
    found = replay(
        LOG, parse_policy('version = 1\n[[rules]]\nname = "no"\nif = "true"\nallow = ["cloud"]\n[privacy.classes]\npersonal = ["local"]\n')
    )
    assert found.after.unanswered == 3
    assert found.after.risk is None


def test_evidence_of_the_stream_counts_only_for_its_own_window() -> None:
    doubtful = line(lowest=-3.0, window=16)
    assert route_under(Policy(), doubtful) == "local→cloud"
    assert route_under(parse_policy("version = 1\n[handoff]\nwindow = 8\n"), doubtful) == "local"  # shorter than a window of eight
    with pytest.raises(Unreplayable, match="this window"):
        route_under(parse_policy("version = 1\n[handoff]\nwindow = 8\n"), replace(doubtful, local_tokens=20))


@settings(max_examples=150)
@given(strategies.policies, strategies.facts, strategies.snapshots, strategies.spendings, st.floats(0, 1))
def test_the_route_is_what_the_decision_would_be(policy: Policy, facts: Facts, snapshot: Snapshot, spent: Spent, confidence: float) -> None:
    route = route_under(policy, line(facts=facts, snapshot=snapshot, spent=spent, confidence=confidence))
    verdict = decide(policy, facts, snapshot, spent)
    if facts.privacy == "secret":
        assert "cloud" not in route
    if verdict.start != "local":
        assert route == (verdict.start or "none")
    elif policy.handoff.max_switches:
        verdict = judge_answer(policy, verdict, facts.task, confidence, 0.5, Promise())
        if verdict.start == "local":
            verdict = judge_certificate(policy, verdict, confidence, Promise())  # none holds, which `uncertified` may lean for
        assert route == {"local": "local", "cloud": "local→cloud", None: "none"}[verdict.start]


def test_what_a_client_writes_can_be_replayed(tmp_path: Path) -> None:
    with Client(log=tmp_path / "log") as client:
        routes = [client.ask(prompt).route for prompt in ("wake me up at six", "play some jazz", "what is the weather")]
        client.ask("once upon a time", task="text", max_tokens=20)
    log, skipped = read_log(tmp_path / "log")
    assert skipped == 0
    assert [entry.route for entry in log[:3]] == routes
    assert replay(log, Policy()).moved == 0
    assert log[3].lowest is None  # nobody watched: there was no cloud to turn to


def test_lines_that_say_too_little_are_counted(tmp_path: Path) -> None:
    decision = Decision("r", "p", "e", None, "call", "personal", FINE, (), "local", (), FACTS, Spent())
    path = tmp_path / "log"
    old = {key: value for key, value in decision.to_dict().items() if key != "facts"}
    path.write_text(
        "\n".join(
            [
                json.dumps(decision.to_dict()),
                json.dumps(old),
                "{",
                "[1]",
                "[" * 10_000,
                "\udcff".encode("utf-8", "surrogateescape").decode("latin1"),
            ]
        )
    )
    log, skipped = read_log(path)
    assert (len(log), skipped) == (1, 5)
    assert log[0].facts == FACTS


def test_an_empty_or_missing_log_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no decision"):
        replay([], Policy())
    with pytest.raises(UserError, match="cannot be read"):
        read_log(tmp_path / "absent")


def test_the_command_draws_a_report(tmp_path: Path) -> None:
    (tmp_path / "p.toml").write_text("version = 1\n")
    (tmp_path / "pairs").write_text('{"score": 0.9, "worse": false}\n{"score": 0.2, "worse": true}\n')
    with Client(log=tmp_path / "log") as client:
        client.ask("wake me up at six")
    arguments = ["policy", "replay", str(tmp_path / "log"), "--policy", str(tmp_path / "p.toml"), "--pairs", str(tmp_path / "pairs")]
    assert main([*arguments, "--report", str(tmp_path / "page.html")]) == 0
    page = (tmp_path / "page.html").read_text()
    assert "Deferral" in page
    assert "Latency" in page
    assert "wake me" not in page
