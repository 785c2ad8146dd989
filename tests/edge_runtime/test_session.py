from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any

import numpy as np
import pytest

import leanto_edge
from leanto_edge import Engine, GenerationRequest, SamplingParams
from leanto_edge.drafts import NgramDraft

STORY = "Once upon a time there was a little girl named Lily. She had a red ball."
TURNS = (STORY, STORY + " One day she went to the park with her mum.", STORY + " One day it rained.", "Tom had a dog.", STORY)


@pytest.fixture(scope="module")
def engine() -> Engine:
    return leanto_edge.load(leanto_edge.embedded())


class Counted:
    """The engine's model, counting the tokens that it reads."""

    def __init__(self, model: Any) -> None:
        self.new_cache, self._model, self.read = model.new_cache, model, 0

    def steps(self, cache: Any, ids: Any, *rest: Any) -> Any:
        self.read += len(ids)
        return self._model.steps(cache, ids, *rest)


def text(prompt: str, **more: Any) -> GenerationRequest:
    options = {"max_tokens": 30, **more.pop("sampling", {})}
    return GenerationRequest(prompt, sampling=SamplingParams(**options), **more)


@pytest.mark.parametrize("sampling", [{}, {"temperature": 0.8, "seed": 5}, {"temperature": 1.0, "top_p": 0.9, "seed": 7}], ids=str)
@pytest.mark.parametrize("draft_tokens", [0, 6])
def test_turns_of_a_session_are_what_each_would_be_alone(engine: Engine, sampling: dict[str, Any], draft_tokens: int) -> None:
    session = engine.session()
    for prompt in TURNS:
        request = text(prompt, sampling=sampling, draft_tokens=draft_tokens, top_logprobs=2)
        alone = engine.complete(text(prompt, sampling=sampling, top_logprobs=2))
        assert session.complete(request) == alone


def test_a_session_reads_only_what_is_new() -> None:
    engine = leanto_edge.load(leanto_edge.embedded())
    engine.model = counted = Counted(engine.model)  # type: ignore[assignment]
    session = engine.session()
    first = session.complete(text(STORY))
    prompt = STORY + first.text + " The end."
    new = len(engine.tokenizer.encode(prompt)) - len(engine.tokenizer.encode(STORY + first.text))
    counted.read = 0
    session.complete(text(prompt, sampling={"max_tokens": 1}))
    assert counted.read <= new + 3  # where texts meet, tokens may differ


def test_a_turn_that_was_cut_off_leaves_the_session_as_it_should_be(engine: Engine) -> None:
    session = engine.session()
    for taken in (0, 1, 7):
        tokens = session.generate(text(STORY, draft_tokens=8))
        assert len(list(islice(tokens, taken))) == taken
        tokens.close()  # type: ignore[attr-defined]
        assert session.complete(text(TURNS[1])) == engine.complete(text(TURNS[1]))


def test_turns_at_once_in_one_session_do_not_meet(engine: Engine) -> None:
    session = engine.session()
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda prompt: session.complete(text(prompt)), TURNS * 4))
    assert together == [engine.complete(text(prompt)) for prompt in TURNS] * 4


def test_calls_and_text_share_a_session(engine: Engine) -> None:
    session, call = engine.session(), GenerationRequest("wake me up at six", task="call")
    assert session.complete(call) == engine.complete(call)
    assert session.complete(text(STORY)) == engine.complete(text(STORY))
    assert session.complete(call) == engine.complete(call)


def test_a_prompt_that_was_read_first_is_answered_the_same(engine: Engine) -> None:
    for request in (text(STORY), GenerationRequest("wake me up at six", task="call")):
        session = engine.session()
        state = session.read(request)
        assert state.shape == (engine.shape.hidden_size,)
        assert np.isfinite(state).all()
        assert session.complete(request) == engine.complete(request)
        assert (session.read(request) == state).all()


def test_drafts_save_steps_on_text_that_repeats_itself() -> None:
    engine = leanto_edge.load(leanto_edge.embedded())
    calls = []

    class Steps(Counted):
        def steps(self, cache: Any, ids: Any, *rest: Any) -> Any:
            calls.append(len(ids))
            return super().steps(cache, ids, *rest)

    engine.model = Steps(engine.model)  # type: ignore[assignment]
    request = text("the cat sat. the cat sat. the cat sat. the cat sat. the", draft_tokens=4, sampling={"max_tokens": 40})
    made = len(engine.complete(request).tokens)
    assert len(calls) < made


def test_every_token_comes_with_its_likeliest_rivals(engine: Engine) -> None:
    for token in engine.complete(text(STORY, top_logprobs=3)).tokens:
        assert len(token.top) == 3
        assert token.top[0] == (token.id, token.logprob)  # greedy
        assert token.margin == pytest.approx(token.top[0][1] - token.top[1][1], abs=1e-4)


def test_drafts_are_what_followed_the_longest_run_that_was_seen() -> None:
    draft = NgramDraft()
    assert draft.propose([1, 2, 3, 9, 2, 3], 5) == [9, 2, 3]
    assert draft.propose([1, 2, 3, 9, 2, 3, 8, 1, 2, 3], 2) == [9, 2]  # after 1 2 3, though 2 3 was last followed by 8
    assert draft.propose([1, 2, 3, 9, 2, 3, 8, 1, 2, 3, 5, 5], 4) == []


@pytest.mark.parametrize("options", [{"draft_tokens": -1}, {"draft_tokens": 65}, {"top_logprobs": -1}, {"top_logprobs": 101}])
def test_options_out_of_range_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        GenerationRequest("a", **options)  # type: ignore[arg-type]
