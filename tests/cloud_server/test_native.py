"""The native engine over a real model: the edge's own text and evidence, many at once, and cancellation that stops the work."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path

import pytest

import leanto_edge
from leanto_cloud.engines.base import EngineRequest, EngineToken
from leanto_cloud.engines.native import NativeEngine
from leanto_cloud.errors import ConfigurationError, InvalidRequest, UnsupportedRequest

REQUEST = EngineRequest("Once upon a time", max_tokens=12)


@pytest.fixture(scope="module")
def edge(stories260k: Path) -> leanto_edge.Engine:
    return leanto_edge.load(stories260k, threads=1)


@pytest.fixture
def engine(edge: leanto_edge.Engine) -> Iterator[NativeEngine]:
    made = NativeEngine(edge, capacity=2)
    yield made
    made.close()


async def collect(engine: NativeEngine, request: EngineRequest) -> list[EngineToken]:
    async with aclosing(engine.generate(request)) as tokens:
        return [token async for token in tokens]


def test_tokens_are_those_of_the_edge(engine: NativeEngine, edge: leanto_edge.Engine) -> None:
    expected = edge.complete(leanto_edge.GenerationRequest(REQUEST.prompt, sampling=leanto_edge.SamplingParams(max_tokens=12)))
    tokens = asyncio.run(collect(engine, REQUEST))
    assert [(token.id, token.text, token.logprob) for token in tokens] == [(t.id, t.text, t.logprob) for t in expected.tokens]
    assert tokens[-1].finish_reason == "length"


def test_an_accepted_prefix_is_gone_on_from(engine: NativeEngine) -> None:
    whole = "".join(token.text for token in asyncio.run(collect(engine, REQUEST)))
    prefix = whole[: whole.index(" ", 10)]
    rest = asyncio.run(collect(engine, EngineRequest(REQUEST.prompt, prefix=prefix, max_tokens=4)))
    assert whole.startswith(prefix + "".join(token.text for token in rest)[:5])


def test_the_same_seed_samples_the_same_text(engine: NativeEngine) -> None:
    request = EngineRequest("Once upon a time", max_tokens=12, temperature=1.0, seed=7)
    assert asyncio.run(collect(engine, request)) == asyncio.run(collect(engine, request))


def test_several_generations_at_once_do_not_mix(engine: NativeEngine) -> None:
    async def run() -> list[list[EngineToken]]:
        return await asyncio.gather(*(collect(engine, REQUEST) for _ in range(4)))

    first, *others = asyncio.run(run())
    assert others == [first] * 3


def test_closing_early_stops_the_generation(engine: NativeEngine) -> None:
    async def run() -> int:
        async with aclosing(engine.generate(EngineRequest("Once upon a time", max_tokens=400))) as tokens:
            await anext(tokens)
        return engine.load().running

    assert asyncio.run(run()) == 0


def test_a_task_that_the_model_lacks_is_refused(engine: NativeEngine) -> None:
    with pytest.raises(UnsupportedRequest):
        engine.generate(EngineRequest("lights off", task="call"))


def test_a_prompt_over_the_context_is_refused(engine: NativeEngine) -> None:
    with pytest.raises(InvalidRequest, match="shorten it"):
        asyncio.run(collect(engine, EngineRequest("word " * 600)))


def test_prompt_tokens_are_counted(engine: NativeEngine, edge: leanto_edge.Engine) -> None:
    assert engine.prompt_tokens(REQUEST) == len(edge.tokenizer.encode("Once upon a time"))


def test_a_folder_that_is_no_model_is_the_operators_mistake(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError):
        NativeEngine.load_model(tmp_path, capacity=1)
