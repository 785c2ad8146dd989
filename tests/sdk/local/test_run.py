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


def test_only_its_own_work_is_timed() -> None:
    clock = FakeClock()
    edge = FakeEdge(tokens("a b c d e"), work=lambda: clock.advance(2.0))
    local = LocalRun(edge, Ask("x", "text", "personal"), Watch(0, 4, None), prefix="", max_tokens=50, deadline=math.inf, clock=clock.clock)

    async def read() -> None:
        while not local.done:
            await local.advance()
            clock.advance(100.0)

    asyncio.run(read())
    assert local.seconds == 10.0


@pytest.mark.parametrize(
    ("usual", "hurry_s", "max_tokens", "token_s", "given_up_at"),
    [
        (None, 50.0, 200, 1.0, 50),  # half of the time is over, and 150 tokens are left for 50 seconds
        (None, 50.0, 99, 1.0, None),
        (None, 50.0, 200, 0.4, None),  # 75 are left at 125, for 50 seconds
        (150, 50.0, 200, 1.0, 4),
        (150, 50.0, 90, 1.0, None),
        (20, 50.0, 200, 1.0, 50),  # longer than usual: it may end any moment, until time is short
        (20, 50.0, 200, 10.0, 4),
    ],
)
def test_a_run_that_cannot_be_through_in_time_says_so_as_soon_as_that_is_known(
    usual: float | None, hurry_s: float, max_tokens: int, token_s: float, given_up_at: int | None
) -> None:
    clock = FakeClock(now=0.0)
    edge = FakeEdge(tokens(" ".join("a" * min(max_tokens, 99))), work=lambda: clock.advance(token_s))
    watch = Watch(None, 4, None, usual_tokens=usual, hurry_at=hurry_s)
    local = LocalRun(edge, Ask("x", "text", "personal"), watch, prefix="", max_tokens=max_tokens, deadline=100.0, clock=clock.clock)
    news = asyncio.run(local.advance())
    assert (len(local.tokens) if news.too_late is not None else None) == given_up_at
    assert local.too_slow is (news.too_late is not None)
    assert news.too_late is None or news.too_late > 100.0


def test_the_time_to_the_first_token_is_not_the_speed_of_the_others() -> None:
    clock, first = FakeClock(now=0.0), [50.0]
    edge = FakeEdge(tokens("a b c d e f g"), work=lambda: clock.advance(first.pop() if first else 0.1))
    watch = Watch(None, 4, None, usual_tokens=100, hurry_at=10.0)
    local = LocalRun(edge, Ask("x", "text", "personal"), watch, prefix="", max_tokens=200, deadline=100.0, clock=clock.clock)
    assert asyncio.run(local.advance()).done


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
