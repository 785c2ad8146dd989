from __future__ import annotations

import asyncio
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes import FakeClock, FakeEdge, tokens
from leanto import EngineFault
from leanto.local.run import LocalRun, News, Watch, assess
from leanto.request import Ask


def run(edge: FakeEdge, watch: Watch, deadline: float = math.inf) -> LocalRun:
    return LocalRun(edge, Ask("x", "text", "personal"), watch, prefix="", max_tokens=50, deadline=deadline, clock=FakeClock().clock)


def all_news(local: LocalRun) -> list[News]:
    async def collect() -> list[News]:
        found = [await local.advance()]
        while not (found[-1].done or found[-1].late):
            found.append(await local.advance())
        await local.close()
        return found

    return asyncio.run(collect())


@given(words=st.integers(1, 12), hold=st.integers(0, 14))
def test_exactly_the_newest_tokens_are_held_back(words: int, hold: int) -> None:
    local = run(FakeEdge(tokens(" ".join("a" * words))), Watch(hold, 4, None))
    shown = "".join(news.text for news in all_news(local))
    assert len(shown.split()) == max(0, words - 1 - hold)  # the last token ends the run before it could be shown
    assert (shown + local.flush()).split() == ["a"] * words


def test_a_run_that_holds_everything_makes_no_stops() -> None:
    assert all_news(run(FakeEdge(tokens("a b c d")), Watch(None, 2, -2.0))) == [News(done=True)]


def test_a_low_window_is_news_and_trust_ends_it() -> None:
    async def steps() -> tuple[News, News]:
        local = run(FakeEdge(tokens("a b c d e", [-0.1, -5.0])), Watch(None, 2, -2.0))
        first = await local.advance()
        local.trust()
        last = await local.advance()
        await local.close()
        return first, last

    first, last = asyncio.run(steps())
    assert first.doubt == pytest.approx(-2.55)
    assert last.done


def test_nothing_is_computed_before_the_first_step_or_after_the_deadline() -> None:
    edge = FakeEdge(tokens("a b"))
    assert all_news(run(edge, Watch(0, 2, None), deadline=1.0)) == [News(late=True)]
    assert edge.requests == []


def test_a_failure_of_the_engine_is_a_fault() -> None:
    local = run(FakeEdge([ValueError("bad shape")]), Watch(0, 2, None))
    with pytest.raises(EngineFault, match="bad shape"):
        all_news(local)


def test_an_answer_without_tokens_deserves_no_confidence() -> None:
    assert assess(FakeEdge([]).info, "call", []).value == 0.0


def test_the_confidence_of_an_unfit_model_is_refused() -> None:
    sure = tokens("a b", [-0.01, -0.01])
    assert assess(FakeEdge([], fit=True).info, "call", sure).value > 0.9
    found = assess(FakeEdge([], fit=False).info, "call", sure)
    assert (found.value, found.calibrated, found.threshold) == (0.0, False, None)
