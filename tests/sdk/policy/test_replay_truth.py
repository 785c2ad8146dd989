"""What a replay says of a request is what a client does with it, or nothing at all."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

from hypothesis import assume, event, given, settings
from hypothesis import strategies as st

import strategies
from asking import CALL, POLICY, client
from fakes import SURE, UNSURE, FakeClock, FakeCloud, FakeEdge, call_tokens, chunks, fault, tokens
from leanto import CloudUnavailable, DeadlineExceeded, Decision, LeantoError, Policy
from leanto.confidence import fit
from leanto.policy.figures import Costs, taken
from leanto.policy.logged import Logged, logged
from leanto.policy.replay import Replayer, Unreplayable
from leanto.policy.schema import Budgets, CloudTarget, Offline
from leanto.remote import RemoteRequest

CLOUDS: dict[str, Callable[[], FakeCloud | None]] = {
    "answers": lambda: FakeCloud(chunks("from afar")),
    "answers calls": lambda: FakeCloud(chunks(CALL, size=9)),
    "is missing": lambda: None,
    "is gone": lambda: FakeCloud([fault(CloudUnavailable)]),
    "dies in mid-answer": lambda: FakeCloud([*chunks("from afar and", finish=None), fault(CloudUnavailable)]),
}
ROWS = [(call_tokens(CALL, -0.01 * n if right else -n), right) for n in range(1, 21) for right in (True, False)]
scores = st.lists(st.sampled_from([SURE, -0.9, -1.6, UNSURE]), min_size=1, max_size=6)
endings = st.sampled_from(["fine", "breaks", "repeats"])
PROBED = {task: {**fit(ROWS), "threshold": 0.0, "probe": {"weights": [1.0], "bias": 0.0, "floor": 0.4}} for task in ("call", "text")}
states = st.none() | st.sampled_from([(-2.0,), (-0.1,), (2.0,)])  # None: a model without a probe


def edge_that(ending: str, task: str, logprobs: list[float], state: tuple[float] | None = None) -> FakeEdge:
    script: list[Any] = tokens("a b c d e f g h", logprobs)
    if ending == "breaks":
        script[3] = RuntimeError("out of memory")
    elif ending == "repeats":
        script = [*(replace(token, id=7, finish_reason=None) for token in script * 9), script[-1]]
    elif task == "call":
        script = call_tokens(CALL, logprobs[0])
    return FakeEdge(script) if state is None else FakeEdge(script, confidence=PROBED, state=state)


def decided(policy: Policy, ending: str, task: str, logprobs: list[float], cloud: str, state: tuple[float] | None = None) -> Decision:
    """What a client records of one request."""

    async def ask() -> Decision:
        one = client(edge_that(ending, task, logprobs, state), CLOUDS[cloud](), policy)
        try:
            return (await one.ask("now", task=task)).decision
        except LeantoError as error:
            return cast(Decision, error.decision)
        finally:
            await one.aclose()

    return asyncio.run(ask())


LIMITS = ("cloud_bytes_per_session", "cloud_bytes_per_day", "cloud_calls_per_day", "cloud_usd_per_day")  # of what a call may cost at most


def plain(policy: Policy) -> Policy:
    unlimited = replace(policy.budgets, **dict.fromkeys(LIMITS))
    return replace(policy, quality=replace(policy.quality, router=None), budgets=unlimited)


plain_policies = strategies.policies.map(plain)


@settings(max_examples=300, deadline=None)
@given(plain_policies, plain_policies, endings, st.sampled_from(["call", "text"]), scores, st.sampled_from(list(CLOUDS)), states)
def test_a_replay_tells_what_another_policy_would_have_done(
    old: Policy, new: Policy, ending: str, task: str, logprobs: list[float], cloud: str, state: tuple[float] | None
) -> None:
    line = replace(logged(decided(old, ending, task, logprobs, cloud, state)), policy_hash="")
    if (CLOUDS[cloud]() and "cloud" not in line.route and not line.cloud_failed and cloud != "answers calls") or (
        ending == "breaks" and not line.edge_failed
    ):
        return  # what the log did not see fail is taken to work
    truth = logged(decided(new, ending, task, logprobs, cloud, state))
    try:
        course = Replayer(new).course(line)
    except Unreplayable as missing:
        event(f"unreplayable: {missing}")
        return
    event("replayed")
    assert course.answered == taken(truth).answered
    if course.answered:
        assert (course.legs == "local") == (truth.route == "local")
        if not line.edge_failed and not line.cloud_failed:  # else some tokens that nobody saw may have come first, or not
            assert course.legs == truth.route


@settings(max_examples=200, deadline=None)
@given(plain_policies, endings, st.sampled_from(["call", "text"]), scores, st.sampled_from(list(CLOUDS)), states)
def test_a_policy_on_its_own_log_changes_nothing(
    policy: Policy, ending: str, task: str, logprobs: list[float], cloud: str, state: tuple[float] | None
) -> None:
    line = logged(decided(policy, ending, task, logprobs, cloud, state))
    assert Replayer(policy).course(line) == taken(line)


def hurried(deadline_ms: float, mode: Any, cloud_s: float | None) -> Policy:
    budgets, target = Budgets(deadline_ms=round(deadline_ms)), None if cloud_s is None else CloudTarget("n:1", timeout_ms=60_000)
    return replace(POLICY, budgets=budgets, offline=Offline(mode), cloud=target)


def timed(policy: Policy, token_s: float, words: int, cloud_s: float | None, doubtful: bool) -> Logged:
    """One request of a client whose edge takes `token_s` for each word, and whose cloud, if there is one, answers after `cloud_s`."""
    clock = FakeClock()

    def afar(request: RemoteRequest) -> list[Any]:
        assert cloud_s is not None
        clock.advance(min(cloud_s, request.timeout_s))
        return chunks("from afar") if cloud_s <= request.timeout_s else [fault(DeadlineExceeded)]

    async def ask() -> Decision:
        edge = FakeEdge(tokens(" ".join("a" * words), -1.2 if doubtful else SURE), work=lambda: clock.advance(token_s))
        one = client(edge, None if cloud_s is None else FakeCloud(afar), policy, clock=clock.clock)
        try:
            return (await one.ask("now", task="text", max_tokens=40)).decision
        except LeantoError as error:
            return cast(Decision, error.decision)
        finally:
            await one.aclose()

    return logged(asyncio.run(ask()))


@settings(max_examples=150, deadline=None)
@given(
    st.integers(100, 60_000),
    st.integers(100, 60_000),
    st.sampled_from(["local_best_effort", "fail"]),
    st.floats(0.01, 1.0),
    st.integers(1, 40),
    st.none() | st.floats(0.01, 40.0),
    st.booleans(),
)
def test_a_replay_keeps_a_deadline_as_a_client_would(
    old_ms: int, new_ms: int, mode: Any, token_s: float, words: int, cloud_s: float | None, doubtful: bool
) -> None:
    line = replace(timed(hurried(old_ms, mode, cloud_s), token_s, words, cloud_s, doubtful), policy_hash="")
    alone = [] if cloud_s is None else [replace(line, route="cloud", error=None, cloud_failed=False, total_ms=1000 * cloud_s)]
    try:
        course = Replayer(hurried(new_ms, mode, cloud_s), costs=Costs(alone)).course(line)
    except Unreplayable as missing:
        event(f"unreplayable: {missing}")
        return
    some_ms = 2000 * token_s
    assume(new_ms > 2 * some_ms)  # a client looks at the clock before a token, and not after the last one
    near = [hurried(new_ms + shift_ms, mode, cloud_s) for shift_ms in (-some_ms, 0, some_ms)]
    around = [timed(policy, token_s, words, cloud_s, doubtful) for policy in near]
    truths = {(taken(truth).answered, truth.answered and truth.route == "local") for truth in around}
    if len(truths) == 1:  # a deadline that two tokens more or less turn is nothing to replay
        event(f"replayed as {course.route}")
        assert {(course.answered, course.route == "local")} == truths
