"""One engine with one model, in a process of its own: reads a line of JSON with what to measure, answers with a line of JSON.

`python worker.py ENGINE MODEL THREADS CONTEXT`. Asks: {"decode": tokens, "at": context} → {"seconds": …}; {"prefill": tokens} →
{"seconds": …}; {"memory": true} → {"resident_bytes": …}. Runs under any Python that has the engine; knows nothing of leanto's benchmarks.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any, Protocol

PROMPT_TOKEN, TOP_ID = 5, 250


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

        c: Any = importlib.import_module("ik_llama_cpp._ctypes_api" if package == "ik" else "llama_cpp.llama_cpp")
        self._c = c
        silent = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)(lambda *_: None)
        self._silent = silent
        library = ctypes.CDLL(None)
        setter = getattr(c, "llama_log_set", None) or getattr(getattr(c, "_lib", library), "llama_log_set", None)
        if setter:
            setter(silent, None)
        c.llama_backend_init()
        model = c.llama_model_default_params()
        self._model = c.llama_model_load_from_file(path.encode(), model)
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
        """Extend the context by some ids and wait for the logits."""
        import numpy as np

        if len(ids) == 1:
            self._model.step(self._cache, ids[0], 0.0, 1.0, 0, 0.0, None, self._threads)
        else:
            self._model.prefill(self._cache, np.array(ids, np.int32), self._threads)


def load(engine: str, path: str, threads: int, context: int) -> Engine:
    """The engine by name."""
    if engine == "leanto":
        return Leanto(path, threads, context)
    if engine == "onnxruntime-genai":
        return OnnxGenai(path, threads, context)
    return LlamaCpp(engine, path, threads, context)


def answer(engine: Engine, ask: dict[str, Any]) -> dict[str, float]:
    """Measure what is asked."""
    if "memory" in ask:
        with open("/proc/self/status") as file:
            lines = dict(line.split(":", 1) for line in file)
        return {"resident_bytes": 1024 * int(lines["VmRSS"].split()[0])}
    if "prefill" in ask:
        engine.clear()
        ids = [PROMPT_TOKEN + i % TOP_ID for i in range(ask["prefill"])]
        start = time.perf_counter()
        engine.feed(ids)
        return {"seconds": time.perf_counter() - start}
    engine.clear()
    context = max(1, ask["at"])
    for at in range(0, context, 512):
        engine.feed([PROMPT_TOKEN + i % TOP_ID for i in range(at, min(at + 512, context))])
    start = time.perf_counter()
    for i in range(ask["decode"]):
        engine.feed([PROMPT_TOKEN + i % TOP_ID])
    return {"seconds": time.perf_counter() - start}


def main() -> None:
    """Load, say so, and answer until the input ends."""
    name, path, threads, context = sys.argv[1:]
    start = time.perf_counter()
    engine = load(name, path, int(threads), int(context))
    engine.feed([PROMPT_TOKEN])
    print(json.dumps({"seconds": time.perf_counter() - start}), flush=True)
    for line in sys.stdin:
        print(json.dumps(answer(engine, json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
