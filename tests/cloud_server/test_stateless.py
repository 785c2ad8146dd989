"""One request's memory dies with it: nothing of it can be reached afterwards, and the next answer does not depend on it."""

from __future__ import annotations

import asyncio
import gc
import secrets
from collections.abc import Callable
from contextlib import aclosing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import leanto_edge
from leanto.errors import LeantoError
from leanto.remote import RemoteRequest, RemoteTarget
from leanto_cloud.engines.base import EngineRequest
from leanto_cloud.engines.caches import forget_words
from leanto_cloud.engines.native import NativeEngine
from nodes import EchoEngine, collect, open_leg, running_node

REQUEST = EngineRequest("Once upon a time", max_tokens=8)


class ForgetfulEngine(EchoEngine):
    """Keeps no requests for a test to look at."""

    def __init__(self, **more: Any) -> None:
        super().__init__(**more)
        self.requests = SimpleNamespace(append=lambda _: None)  # type: ignore[assignment]


def reachable(canary: str) -> list[str]:
    """Where a text with the canary in it, other than the canary itself, hangs in this process."""
    gc.collect()
    raw, found = canary.encode(), []
    for holder in gc.get_objects():
        for held in gc.get_referents(holder):
            kind = type(held)  # asking the object itself would wake lazy ones
            if (kind is str and canary in held and held is not canary) or (kind in (bytes, bytearray) and raw in held and held is not raw):
                found.append(type(holder).__name__)
    return found


async def ask(target: RemoteTarget, canary: str, *, only_begin: bool = False) -> None:
    async with open_leg(target) as leg:
        request = RemoteRequest(f"tell {canary} a story", max_tokens=6, timeout_s=30)
        try:
            if only_begin:
                call = leg.generate(request)
                await anext(call)
                await call.aclose()
            else:
                await collect(leg, request)
        except LeantoError as error:
            error.__traceback__ = None


ENDINGS: dict[str, tuple[Callable[[], EchoEngine], bool]] = {
    "answered": (ForgetfulEngine, False),
    "cancelled": (ForgetfulEngine, True),
    "failed": (lambda: ForgetfulEngine(fails_at=1), False),
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_no_text_of_a_request_can_be_reached_once_it_has_ended(ending: str) -> None:
    engine, only_begin = ENDINGS[ending]

    async def run(canary: str) -> list[str]:
        async with running_node(engine()) as node:
            await ask(node.target, canary, only_begin=only_begin)
            while node.server.admission.present:
                await asyncio.sleep(0.005)
            return reachable(canary)

    assert asyncio.run(run(f"canary{secrets.token_hex(8)}")) == []


def test_the_search_finds_what_an_engine_keeps() -> None:
    async def run(canary: str) -> list[str]:
        async with running_node(EchoEngine()) as node:
            await ask(node.target, canary)
            return reachable(canary)

    assert asyncio.run(run(f"canary{secrets.token_hex(8)}"))


def test_the_native_engine_keeps_no_text_that_can_be_reached(stories260k: Path) -> None:
    async def run(canary: str) -> list[str]:
        engine = NativeEngine.load_model(stories260k, capacity=2)
        async with running_node(engine) as node:
            await ask(node.target, canary)
            return reachable(canary)

    assert asyncio.run(run(f"canary{secrets.token_hex(8)}")) == []


async def tokens_of(engine: Any, request: EngineRequest) -> list[Any]:
    async with aclosing(engine.generate(request)) as tokens:
        return [token async for token in tokens]


def engine_of(name: str, path: Path) -> Any:
    if name == "native":
        return NativeEngine(leanto_edge.load(path, threads=1), capacity=1)
    pytest.importorskip("torch", reason="torch is absent (pip install 'leanto[transformers]')")
    pytest.importorskip("transformers", reason="transformers is absent (pip install 'leanto[transformers]')")
    from leanto_cloud.engines.transformers import TransformersEngine

    return TransformersEngine.load_model(path, capacity=1)


@pytest.mark.parametrize("name", ["native", "transformers"])
def test_an_answer_is_to_the_bit_the_same_whoever_asked_before(name: str, stories260k: Path) -> None:
    async def run() -> None:
        engine = engine_of(name, stories260k)
        fresh = await tokens_of(engine, REQUEST)
        for before in ("Once upon a", "Once upon a time there was a dog", "A red ball and a blue sky " * 10):
            await tokens_of(engine, EngineRequest(before, max_tokens=20, temperature=1.0, seed=3))
            assert await tokens_of(engine, REQUEST) == fresh
        engine.close()

    asyncio.run(run())


def test_the_tokenizers_of_the_engines_remember_no_words(stories260k: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = []
    for module in ("native", "transformers"):
        if module == "transformers":
            pytest.importorskip("torch", reason="torch is absent")
        monkeypatch.setattr(f"leanto_cloud.engines.{module}.forget_words", closed.append)
        engine_of(module, stories260k).close()
    assert [type(tokenizer).__name__ for tokenizer in closed] == ["Tokenizer", "Tokenizer"]


def test_the_cache_of_a_tokenizer_is_closed() -> None:
    sizes: list[int] = []
    forget_words(SimpleNamespace(model=SimpleNamespace(_resize_cache=sizes.append)))
    forget_words(SimpleNamespace(model=SimpleNamespace()))
    assert sizes == [0]
    from tokenizers import models

    assert hasattr(models.BPE(), "_resize_cache")  # a release without it would leave the cache open
    assert hasattr(models.Unigram(), "_resize_cache")
