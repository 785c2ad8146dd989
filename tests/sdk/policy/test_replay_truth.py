"""What a replay says of a request is what a client does with it, or nothing at all."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

from hypothesis import event, given, settings
from hypothesis import strategies as st

import strategies
from asking import CALL, client
from fakes import SURE, UNSURE, FakeCloud, FakeEdge, call_tokens, chunks, fault, tokens
from leanto import CloudUnavailable, Decision, LeantoError, Policy
from leanto.policy.figures import taken
from leanto.policy.logged import logged
from leanto.policy.replay import Replayer, Unreplayable

CLOUDS: dict[str, Callable[[], FakeCloud | None]] = {
    "answers": lambda: FakeCloud(chunks("from afar")),
    "answers calls": lambda: FakeCloud(chunks(CALL, size=9)),
    "is missing": lambda: None,
    "is gone": lambda: FakeCloud([fault(CloudUnavailable)]),
    "dies in mid-answer": lambda: FakeCloud([*chunks("from afar and", finish=None), fault(CloudUnavailable)]),
}
scores = st.lists(st.sampled_from([SURE, -0.9, -1.6, UNSURE]), min_size=1, max_size=6)
endings = st.sampled_from(["fine", "breaks", "repeats"])


def edge_that(ending: str, task: str, logprobs: list[float]) -> FakeEdge:
    script: list[Any] = tokens("a b c d e f g h", logprobs)
    if ending == "breaks":
        script[3] = RuntimeError("out of memory")
    elif ending == "repeats":
        script = [*(replace(token, id=7, finish_reason=None) for token in script * 9), script[-1]]
    elif task == "call":
        script = call_tokens(CALL, logprobs[0])
    return FakeEdge(script)


def decided(policy: Policy, ending: str, task: str, logprobs: list[float], cloud: str) -> Decision:
    """What a client records of one request."""

    async def ask() -> Decision:
        one = client(edge_that(ending, task, logprobs), CLOUDS[cloud](), policy)
        try:
            return (await one.ask("now", task=task)).decision
        except LeantoError as error:
            return cast(Decision, error.decision)
        finally:
            await one.aclose()

    return asyncio.run(ask())


routerless = strategies.policies.map(lambda policy: replace(policy, quality=replace(policy.quality, router=None)))


@settings(max_examples=300, deadline=None)
@given(routerless, routerless, endings, st.sampled_from(["call", "text"]), scores, st.sampled_from(list(CLOUDS)))
def test_a_replay_tells_what_another_policy_would_have_done(
    old: Policy, new: Policy, ending: str, task: str, logprobs: list[float], cloud: str
) -> None:
    line = replace(logged(decided(old, ending, task, logprobs, cloud)), policy_hash="")
    if (CLOUDS[cloud]() and "cloud" not in line.route and not line.cloud_failed and cloud != "answers calls") or (
        ending == "breaks" and not line.edge_failed
    ):
        return  # what the log did not see fail is taken to work
    truth = logged(decided(new, ending, task, logprobs, cloud))
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
@given(routerless, endings, st.sampled_from(["call", "text"]), scores, st.sampled_from(list(CLOUDS)))
def test_a_policy_on_its_own_log_changes_nothing(policy: Policy, ending: str, task: str, logprobs: list[float], cloud: str) -> None:
    line = logged(decided(policy, ending, task, logprobs, cloud))
    assert Replayer(policy).course(line) == taken(line)
