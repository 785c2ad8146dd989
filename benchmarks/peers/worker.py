"""One engine with one model, in a process of its own: reads a line of JSON with what to measure, answers with a line of JSON.

`python worker.py ENGINE MODEL THREADS CONTEXT`. Asks: {"decode": tokens, "at": [contexts]} → {"seconds": [...]}, contexts ascending;
{"prefill": tokens} → {"seconds": …}; {"memory": true} → resident bytes. Runs under any Python that has the engine, and imports no more.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any, Protocol

FIRST_ID, IDS = 5, 250  # of the tokens that are fed
RUN = 512  # tokens of a long context that are fed together


class Engine(Protocol):
    """A model with a cache: `feed` extends the context and returns when the last logits are there."""

    def clear(self) -> None:
        """Forget the context."""
        ...

    def feed(self, ids: list[int]) -> None:
        """Extend the context by some ids and wait for the logits."""
        ...


class LlamaCpp:
    """llama.cpp or ik_llama.cpp through their C interface; the two packages differ in names alone."""

    def __init__(self, package: str, path: str, threads: int, context: int) -> None:
        import ctypes
        import importlib

        c: Any = importlib.import_module("ik_llama_cpp._ctypes_api" if package == "ik_llama.cpp" else "llama_cpp.llama_cpp")
        self._c = c
        self._silent = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)(lambda *_: None)
        setter = getattr(c, "llama_log_set", None) or getattr(getattr(c, "_lib", None), "llama_log_set", None)
        if setter:
            setter(self._silent, None)
        c.llama_backend_init()
        self._model = c.llama_model_load_from_file(path.encode(), c.llama_model_default_params())
        if not self._model:
            raise SystemExit(f"{path} does not load")
        params = c.llama_context_default_params()
        params.n_ctx, params.n_batch, params.n_ubatch = context, 2048, 512
        params.n_threads = params.n_threads_batch = threads
        self._context = c.llama_init_from_model(self._model, params)
        self._batch = c.llama_batch_init(2048, 0, 1)
        self._position = 0

    def clear(self) -> None:
        """Forget the context."""
        if hasattr(self._c, "llama_kv_cache_clear"):
            self._c.llama_kv_cache_clear(self._context)
        else:
            self._c.llama_memory_clear(self._c.llama_get_memory(self._context), True)
        self._position = 0

    def feed(self, ids: list[int]) -> None:
        """Extend the context by some ids and wait for the logits."""
        batch = self._batch
        batch.n_tokens = len(ids)
        for i, token in enumerate(ids):
            batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.logits[i] = token, self._position + i, 1, i == len(ids) - 1
            batch.seq_id[i][0] = 0
        if self._c.llama_decode(self._context, batch):
            raise SystemExit("llama_decode failed")
        self._c.llama_get_logits_ith(self._context, len(ids) - 1)[0]
        self._position += len(ids)


class OnnxGenai:
    """onnxruntime-genai."""

    def __init__(self, path: str, threads: int, context: int) -> None:
        import onnxruntime_genai as og

        config: Any = og.Config(path)
        config.overlay(json.dumps({"model": {"decoder": {"session_options": {"intra_op_num_threads": threads}}}}))
        self._og, self._model, self._context = og, og.Model(config), context
        self.clear()

    def clear(self) -> None:
        """Forget the context."""
        params = self._og.GeneratorParams(self._model)
        params.set_search_options(max_length=self._context, do_sample=False)
        self._generator = self._og.Generator(self._model, params)

    def feed(self, ids: list[int]) -> None:
        """Extend the context by some ids and wait for the logits."""
        self._generator.append_tokens(ids)
        self._generator.get_logits()


class Transformers:
    """transformers in float32, its forward pass with its cache."""

    def __init__(self, path: str, threads: int, _context: int) -> None:
        import torch
        from transformers import AutoModelForCausalLM

        torch.set_num_threads(threads)
        self._torch, self._model = torch, AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()
        self.clear()

    def clear(self) -> None:
        """Forget the context."""
        self._cache: Any = None

    def feed(self, ids: list[int]) -> None:
        """Extend the context by some ids and wait for the logits."""
        with self._torch.inference_mode():
            out = self._model(self._torch.tensor([ids]), past_key_values=self._cache, use_cache=True, logits_to_keep=1)
        self._cache = out.past_key_values


class Leanto:
    """leanto_edge on an artifact."""

    def __init__(self, path: str, threads: int, context: int) -> None:
        import leanto_edge

        self._model, self._threads, self._context = leanto_edge.load(path).model, threads, context
        self.clear()

    def clear(self) -> None:
        """Forget the context."""
        self._cache = self._model.new_cache(self._context)

    def feed(self, ids: list[int]) -> None:
        """Extend the context by some ids; a single one samples too, as a step of the engine does."""
        import numpy as np

        if len(ids) == 1:
            self._model.step(self._cache, ids[0], 0.0, 1.0, 0, 0.0, None, self._threads)
        else:
            self._model.prefill(self._cache, np.array(ids, np.int32), self._threads)


def load(engine: str, path: str, threads: int, context: int) -> Engine:
    """The engine by name."""
    kinds: dict[str, Callable[[str, int, int], Engine]] = {"leanto": Leanto, "onnxruntime-genai": OnnxGenai, "transformers": Transformers}
    return kinds[engine](path, threads, context) if engine in kinds else LlamaCpp(engine, path, threads, context)


def answer(engine: Engine, ask: dict[str, Any]) -> dict[str, Any]:
    """Measure what is asked."""
    if "memory" in ask:
        return {"resident_bytes": _resident()}
    engine.clear()
    if "prefill" in ask:
        return {"seconds": _timed(engine, _ids(0, ask["prefill"]))}
    found, at = [], 0
    for context in ask["at"]:
        while at < context:
            step = min(RUN, context - at)
            engine.feed(_ids(at, step))
            at += step
        engine.feed(_ids(at, 1))
        found.append(sum(_timed(engine, _ids(at + i, 1)) for i in range(1, ask["decode"] + 1)))
        at += ask["decode"] + 1
    return {"seconds": found}


def _timed(engine: Engine, ids: list[int]) -> float:
    start = time.perf_counter()
    engine.feed(ids)
    return time.perf_counter() - start


def _ids(first: int, count: int) -> list[int]:
    return [FIRST_ID + i % IDS for i in range(first, first + count)]


def _resident() -> int:
    with open("/proc/self/status") as file:
        lines = dict(line.split(":", 1) for line in file)
    return 1024 * int(lines["VmRSS"].split()[0])


def main() -> None:
    """Load, make one token, say so, and answer until the input ends."""
    name, path, threads, context = sys.argv[1:]
    engine = load(name, path, int(threads), int(context))
    engine.feed([FIRST_ID])
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        print(json.dumps(answer(engine, json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
