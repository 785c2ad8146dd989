from __future__ import annotations

import pytest

from fakes import FakeCloud, FakeEdge, UntouchableCloud, chunks
from leanto import Client, Policy
from leanto.local.degeneration import Breakdown, Degeneration
from leanto.policy.schema import Handoff
from leanto_edge import Token

CALL = '{"intent": "alarm", "slots": {}}'


def token(text: str = "", number: int = 1, finish: str | None = None) -> Token:
    return Token(number, text, -0.01, 1.0, 0.1, finish)  # type: ignore[arg-type]


def first(watch: Degeneration, tokens: list[Token]) -> tuple[int, Breakdown] | None:
    """The number of the first token that broke something, from 1."""
    return next(((n, found) for n, one in enumerate(tokens, 1) if (found := watch.add(one.id, one.text))), None)


def test_the_same_eight_tokens_again_and_again_are_a_loop() -> None:
    found = first(Degeneration(call=False, max_repeats=4), [token(number=n % 10) for n in range(100)])
    assert found is not None
    assert (found[0], found[1].name, found[1].value) == (48, "repeats", 5)
    assert first(Degeneration(call=False, max_repeats=None), [token()] * 100) is None
    assert first(Degeneration(call=False, max_repeats=4), [token(number=n) for n in range(100)]) is None


def test_a_call_that_cannot_become_one_is_broken_at_its_first_wrong_character() -> None:
    found = first(Degeneration(call=True, max_repeats=None), [token(part) for part in ('{"intent"', ": ", "alarm", '"}')])
    assert found is not None
    assert (found[0], found[1].name) == (3, "json_prefix")
    assert first(Degeneration(call=True, max_repeats=None), [token(), token(CALL)]) is None


def test_a_broken_call_is_handed_off_before_it_is_finished_and_the_record_says_why() -> None:
    edge = FakeEdge([token(part) for part in ('{"intent"', " = ", "alarm")] + [token("}", finish="stop")])
    with Client(model=edge, cloud=FakeCloud(chunks(CALL)), sources=[]) as client:
        decision = client.ask("wake me", task="call").decision
    assert (decision.route, decision.local_tokens, decision.wasted_tokens) == ("local→cloud", 2, 2)
    veto = decision.first_veto
    assert veto is not None
    assert (veto.stage, veto.name, veto.value) == ("stream", "json_prefix", False)
    assert decision.wasted_j is None or decision.wasted_j == pytest.approx(decision.energy_j)


@pytest.mark.parametrize(("private", "most"), [(True, 1), (False, None)])
def test_where_no_cloud_may_answer_or_the_policy_says_so_a_loop_is_finished(private: bool, most: int | None) -> None:
    edge = FakeEdge([*[token("la ")] * 40, token("la", finish="stop")])
    with Client(policy=Policy(handoff=Handoff(max_repeats=most)), model=edge, cloud=UntouchableCloud(), sources=[]) as client:
        assert client.ask("sing", task="text", private=private).decision.local_tokens == 41
