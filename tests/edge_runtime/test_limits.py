"""What an engine does where something ends: the context, the vocabulary, the caller's patience, the process."""

from __future__ import annotations

import multiprocessing
import signal
from collections import deque
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import leanto_edge
from artifacts import CONFIG, write_plain, write_tiny
from leanto_edge import ArtifactError, Engine, GenerationRequest, PromptError, SamplingParams
from leanto_edge.session import Session

CONTEXT = CONFIG["max_position_embeddings"]
LONG = GenerationRequest("go on", sampling=SamplingParams(max_tokens=CONTEXT, temperature=1.0, seed=3))


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    return leanto_edge.load(write_tiny(tmp_path_factory.mktemp("engine") / "tiny", rank=2).path, threads=2)


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    return leanto_edge.load(write_tiny(tmp_path_factory.mktemp("engine") / "other", "int8", 8).path, threads=2)


def ids(engine: Engine | Session) -> list[int]:
    return [token.id for token in engine.generate(LONG)]


@pytest.mark.parametrize("room", [1, 5])
def test_an_answer_ends_with_the_context(engine: Engine, room: int) -> None:
    prompt = "x" * (CONTEXT - 1 - room)  # a token for each character, and the BOS
    tokens = list(engine.generate(GenerationRequest(prompt, sampling=SamplingParams(max_tokens=1000, temperature=1.0, seed=1))))
    assert len(tokens) == room
    assert tokens[-1].finish_reason == "length"


@pytest.mark.parametrize("more", [0, 1, 1000])
def test_a_prompt_that_leaves_no_room_is_refused(engine: Engine, more: int) -> None:
    with pytest.raises(PromptError, match="shorten it"):
        engine.generate(GenerationRequest("x" * (CONTEXT - 1 + more)))


@pytest.mark.parametrize("prompt", ["", " \n\t", "?!", "\udcff"])
def test_an_utterance_that_says_nothing_is_refused(prompt: str) -> None:
    with pytest.raises(PromptError):
        leanto_edge.load(leanto_edge.embedded()).generate(GenerationRequest(prompt, task="call"))


@pytest.mark.parametrize("wrong", [[], [-1], [CONFIG["vocab_size"]], [0, 1 << 31], [1 << 40], [0] * (CONTEXT + 1)])
def test_ids_that_the_model_cannot_read_are_refused(engine: Engine, wrong: list[int]) -> None:
    with pytest.raises(PromptError):
        engine.logits(wrong)


def test_a_call_schema_of_many_mebibytes_is_refused_unread(tmp_path: Path) -> None:
    path = write_plain(tmp_path / "plain")
    with (path / "calls.json").open("wb") as file:
        file.truncate(17 << 20)
    with pytest.raises(ArtifactError, match="larger than 16 MiB"):
        leanto_edge.load(path)


class Counted:
    """A model that counts the calls it gets."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self.calls = 0

    def __getattr__(self, name: str) -> Any:
        self.calls += 1
        return getattr(self._model, name)


def test_closing_a_generation_ends_the_work(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, counted = ids(engine), Counted(engine.model)
    monkeypatch.setattr(engine, "model", counted)
    tokens = engine.generate(LONG)
    assert isinstance(tokens, Generator)
    begun = [next(tokens).id for _ in range(3)]
    calls = counted.calls
    tokens.close()
    assert (begun, list(tokens)) == (whole[:3], [])
    assert calls == counted.calls < len(whole)
    assert ids(engine) == whole


class Interrupt(Exception):
    """What the signal handler below raises."""


@pytest.mark.parametrize("remembers", [False, True])
def test_an_interrupted_generation_leaves_the_engine_as_it_was(engine: Engine, remembers: bool) -> None:
    def interrupt(_signal: int, _frame: FrameType | None) -> None:
        raise Interrupt

    speaker = engine.session() if remembers else engine
    whole, before = ids(engine), signal.signal(signal.SIGALRM, interrupt)
    try:
        for delay in (0.001, 0.003, 0.01):
            signal.setitimer(signal.ITIMER_REAL, delay)
            with pytest.raises(Interrupt):
                deque(map(ids, repeat(speaker)), maxlen=0)
            assert ids(speaker) == whole
    finally:
        signal.signal(signal.SIGALRM, before)


def test_two_models_in_two_threads_answer_as_each_does_alone(engine: Engine, other: Engine) -> None:
    alone = [ids(engine), ids(other)]
    assert alone[0] != alone[1]
    for _ in range(5):
        with ThreadPoolExecutor(2) as pool:
            assert list(pool.map(ids, (engine, other))) == alone


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_workers_forked_from_a_process_with_a_model_answer_as_it_does(engine: Engine) -> None:
    alone = ids(engine)
    _FORKED.append(engine)
    try:
        with multiprocessing.get_context("fork").Pool(2) as workers:
            assert workers.map_async(_answer, range(4)).get(timeout=60) == [alone] * 4
    finally:
        _FORKED.clear()
    assert ids(engine) == alone


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_generation_may_go_on_in_a_forked_child_and_in_its_parent(engine: Engine) -> None:
    whole, tokens = ids(engine), engine.generate(LONG)
    begun = [next(tokens).id]
    context = multiprocessing.get_context("fork")
    answers = context.SimpleQueue()
    child = context.Process(target=lambda: answers.put([token.id for token in tokens]))
    child.start()
    here = [token.id for token in tokens]
    child.join(60)
    assert child.exitcode == 0
    assert begun + answers.get() == begun + here == whole


_FORKED: list[Engine] = []  # what the workers of a fork inherit


def _answer(_number: int) -> list[int]:
    return ids(_FORKED[0])
