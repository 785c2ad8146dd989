"""The transformers engine over a real model: the same text and evidence as the native engine, and cancellation."""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

import leanto_edge
from leanto_cloud.engines.base import EngineRequest, EngineToken
from leanto_cloud.errors import ConfigurationError, InvalidRequest, UnsupportedRequest

pytest.importorskip("torch", reason="torch is absent (pip install 'leanto[transformers]')")
pytest.importorskip("transformers", reason="transformers is absent (pip install 'leanto[transformers]')")

LOGPROB_BOUND = 1e-3  # between float32 in torch and in our kernels
REQUEST = EngineRequest("Once upon a time", max_tokens=12)


@pytest.fixture(scope="module")
def engine(stories260k: Path) -> Any:
    from leanto_cloud.engines.transformers import TransformersEngine

    return TransformersEngine.load_model(stories260k, capacity=2)


async def collect(engine: Any, request: EngineRequest) -> list[EngineToken]:
    async with aclosing(engine.generate(request)) as tokens:
        return [token async for token in tokens]


def text_of(tokens: list[EngineToken]) -> str:
    return "".join(token.text for token in tokens)


def test_tokens_and_logprobs_agree_with_the_native_engine(engine: Any, stories260k: Path) -> None:
    edge = leanto_edge.load(stories260k, threads=1)
    expected = edge.complete(leanto_edge.GenerationRequest(REQUEST.prompt, sampling=leanto_edge.SamplingParams(max_tokens=12)))
    tokens = asyncio.run(collect(engine, REQUEST))
    assert [token.id for token in tokens] == [token.id for token in expected.tokens]
    assert text_of(tokens) == expected.text
    assert max(abs(ours.logprob - theirs.logprob) for ours, theirs in zip(tokens, expected.tokens, strict=True)) <= LOGPROB_BOUND


def test_greedy_text_is_the_golden_text(engine: Any, stories260k: Path) -> None:
    golden = json.loads((stories260k / "golden.json").read_text())["greedy_text"]
    assert golden.startswith(f"<s> Once upon a time{text_of(asyncio.run(collect(engine, REQUEST)))}")


@pytest.mark.parametrize("more", [{"top_k": 5}, {"top_p": 0.8}, {"top_k": 3, "top_p": 0.5}], ids=str)
def test_the_same_seed_samples_the_same_text(engine: Any, more: dict[str, Any]) -> None:
    request = EngineRequest("Once upon a time", max_tokens=8, temperature=1.0, seed=7, **more)
    assert asyncio.run(collect(engine, request)) == asyncio.run(collect(engine, request))


def test_top_k_of_one_is_greedy(engine: Any) -> None:
    sampled = EngineRequest("Once upon a time", max_tokens=12, temperature=2.0, top_k=1, seed=1)
    assert text_of(asyncio.run(collect(engine, sampled))) == text_of(asyncio.run(collect(engine, REQUEST)))


def test_a_stop_text_ends_the_answer_before_it(engine: Any) -> None:
    tokens = asyncio.run(collect(engine, EngineRequest("Once upon a time", max_tokens=40, stop=("little",))))
    assert tokens[-1].finish_reason == "stop"
    assert text_of(tokens).endswith(" a ")


def test_closing_early_stops_the_generation(engine: Any) -> None:
    async def run() -> int:
        async with aclosing(engine.generate(EngineRequest("Once upon a time", max_tokens=400))) as tokens:
            await anext(tokens)
        return int(engine.load().running)

    assert asyncio.run(run()) == 0


def test_calls_and_prompts_over_the_context_are_refused(engine: Any) -> None:
    with pytest.raises(UnsupportedRequest):
        engine.generate(EngineRequest("lights off", task="call"))
    with pytest.raises(InvalidRequest, match="shorten it"):
        engine.prompt_tokens(EngineRequest("word " * 600))


def test_a_folder_that_transformers_cannot_load_is_the_operators_mistake(tmp_path: Path) -> None:
    from leanto_cloud.engines.transformers import TransformersEngine

    with pytest.raises(ConfigurationError, match=r"config\.json"):
        TransformersEngine.load_model(tmp_path, capacity=1)
    (tmp_path / "config.json").write_text('{"model_type": "nothing known"}')
    with pytest.raises(ConfigurationError, match="cannot load"):
        TransformersEngine.load_model(tmp_path, capacity=1)
