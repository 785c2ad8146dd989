from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from asking import POLICY
from fakes import SURE, UNSURE, FakeCloud, FakeEdge, UntouchableCloud, call_tokens, chunks, fault, tokens
from leanto import AsyncClient, Client, CloudUnavailable, EngineFault, FinalEvent, PromptRefused, Turn
from leanto.ledger import Ledger
from leanto.policy.schema import Budgets, Handoff


def client(edge: FakeEdge, **options: Any) -> Client:
    return Client(model=edge, sources=(), **options)


def test_for_text_the_transcript_starts_the_next_prompt() -> None:
    edge = FakeEdge(tokens(" and then"))
    with client(edge) as made:
        chat = made.chat(task="text")
        chat.ask("Once")
        chat.ask("Later")
    assert [request.prompt for request in edge.requests] == ["Once", "Once and then\nLater"]
    assert chat.turns == (Turn("Once", " and then"), Turn("Later", " and then"))


def test_for_calls_each_turn_stands_alone() -> None:
    edge = FakeEdge(call_tokens('{"intent": "none"}'))
    with client(edge) as made:
        chat = made.chat()
        chat.ask("first")
        chat.ask("second")
    assert [request.prompt for request in edge.requests] == ["first", "second"]


def test_the_oldest_turns_are_dropped_when_the_context_is_full() -> None:
    edge = FakeEdge(tokens(" b c d"), context_length=12)
    with client(edge) as made:
        chat = made.chat(task="text")
        for word in ("one", "two", "three"):
            chat.ask(word, max_tokens=4)
    assert edge.requests[-1].prompt == "two b c d\nthree"
    assert len(chat.turns) == 3


def test_a_turn_that_fails_leaves_the_conversation_as_it_was() -> None:
    edge = FakeEdge([fault(EngineFault)])
    with client(edge) as made:
        chat = made.chat(task="text")
        with pytest.raises(EngineFault):
            chat.ask("Once")
    assert chat.turns == ()


def test_a_private_conversation_stays_private_in_every_turn() -> None:
    with client(FakeEdge(tokens(" x", -6.0)), cloud=UntouchableCloud()) as made:
        chat = made.chat(task="text", private=True)
        assert [chat.ask("Once").decision.privacy, chat.ask("More").decision.privacy] == ["secret", "secret"]


def test_a_streamed_turn_is_remembered() -> None:
    async def talk() -> tuple[Turn, ...]:
        async with AsyncClient(model=FakeEdge(tokens(" x y")), sources=()) as made:
            chat = made.chat(task="text")
            events = [event async for event in chat.stream("Once")]
            assert isinstance(events[-1], FinalEvent)
            return chat.turns

    assert asyncio.run(talk()) == (Turn("Once", " x y"),)


def test_a_sync_chat_streams_too() -> None:
    with client(FakeEdge(tokens(" x y"))) as made:
        chat = made.chat(task="text")
        assert isinstance(list(chat.stream("Once"))[-1], FinalEvent)
    assert len(chat.turns) == 1


def test_a_conversation_that_the_cloud_took_over_stays_there_for_the_turns_that_the_policy_says() -> None:
    edge = FakeEdge(lambda request: tokens(" x", UNSURE if "hard" in request.prompt[-4:] else SURE))
    policy = replace(POLICY, handoff=Handoff(2, -2.0, 2, sticky_turns=2))
    with client(edge, cloud=FakeCloud(chunks(" y")), policy=policy) as made:
        chat = made.chat(task="text")
        replies = [chat.ask(prompt) for prompt in ("easy", "hard", "easy", "easy", "easy", "easy")]
    assert [reply.route for reply in replies] == ["local", "local→cloud", "cloud", "cloud", "local", "local"]
    assert [reply.decision.facts and reply.decision.facts.turns_since_cloud for reply in replies] == [None, None, 1, 2, 3, 4]


def test_a_turn_that_the_edge_answers_after_all_counts_towards_the_end_of_the_takeover() -> None:
    edge = FakeEdge(lambda request: tokens(" x", UNSURE if "hard" in request.prompt[-4:] else SURE))
    policy = replace(POLICY, handoff=Handoff(2, -2.0, 2, sticky_turns=2))
    cloud = FakeCloud(lambda request: chunks(" y") if request.prompt.endswith("hard") else [fault(CloudUnavailable)])
    with client(edge, cloud=cloud, policy=policy) as made:
        chat = made.chat(task="text")
        replies = [chat.ask(prompt) for prompt in ("hard", "easy", "easy", "easy")]
    assert [reply.decision.facts and reply.decision.facts.turns_since_cloud for reply in replies] == [None, 1, 2, 3]
    assert ["sticky" in reply.decision.labels for reply in replies] == [False, True, True, False]
    assert replies[-1].route == "local"


def looped(*asks: tuple[str, bool], script: Any = None, **options: Any) -> list[tuple[str, bool]]:
    """The routes of turns, each a prompt and whether it is a tool's result, and whether the turn was sticky; "hard" is doubted."""
    edge = FakeEdge(lambda request: tokens(" x", UNSURE if "hard" in request.prompt[-4:] else SURE))
    with client(edge, cloud=FakeCloud(script or chunks(" y")), **{"policy": POLICY, **options}) as made:
        chat = made.chat(task="text")
        replies = [chat.ask(prompt, tool_result=result) for prompt, result in asks]
    return [(reply.route, "sticky" in reply.decision.labels) for reply in replies]


def test_a_tools_result_goes_where_the_tool_was_called() -> None:
    assert looped(("hard", False), ("easy", True), ("easy", True), ("easy", False)) == [
        ("local→cloud", False), ("cloud", True), ("cloud", True), ("local", False),
    ]  # fmt: skip
    assert looped(("easy", False), ("hard", True), ("hard", False)) == [("local", False), ("local", True), ("local→cloud", False)]


def test_a_policy_may_decide_every_turn_of_a_tool_loop_anew() -> None:
    free = replace(POLICY, handoff=replace(POLICY.handoff, sticky_tool_loop=False))
    assert looped(("hard", False), ("easy", True), policy=free) == [("local→cloud", False), ("local", False)]


def test_budgets_and_constraints_narrow_a_tool_loop_all_the_same() -> None:
    one = replace(POLICY, budgets=Budgets(cloud_calls_per_day=1))
    assert looped(("hard", False), ("easy", True), policy=one, ledger=Ledger()) == [("local→cloud", False), ("local", False)]
    charges = iter([{"battery_percent": 80.0, "plugged": False}, {"battery_percent": 5.0, "plugged": False}])
    with Client(model=FakeEdge(tokens(" x")), cloud=FakeCloud(chunks(" y")), policy=POLICY, sources=[lambda: next(charges)]) as made:
        made._async._sensors._max_age_s = 0.0
        chat = made.chat(task="text")
        assert [chat.ask("easy").route, chat.ask("easy", tool_result=True).route] == ["local", "cloud"]


def test_a_cloud_that_fails_in_a_tool_loop_leaves_the_edge() -> None:
    answers = iter([chunks(" y"), [fault(CloudUnavailable)]])
    assert looped(("hard", False), ("easy", True), script=lambda request: next(answers)) == [("local→cloud", False), ("local", True)]


def test_a_tools_result_that_nobody_called_for_is_refused() -> None:
    with client(FakeEdge(tokens(" x"))) as made:
        chat = made.chat(task="text")
        with pytest.raises(PromptRefused, match="needs a turn that called the tool"):
            chat.ask("42", tool_result=True)
        assert chat.turns == ()
        list(chat.stream("Once"))
        assert isinstance(list(chat.stream("42", tool_result=True))[-1], FinalEvent)
