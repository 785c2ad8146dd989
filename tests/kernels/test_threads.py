from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

IDS = np.random.default_rng(0).integers(0, 77, 60).astype(np.int32)
SIZES = {"hidden_size": 192, "intermediate_size": 320, "num_heads": 8, "head_dim": 24}


def generate(model: Any, seed: int, threads: int) -> list[tuple[int, float, float, float]]:
    cache, out = model.new_cache(60), []
    token = int(model.prefill(cache, np.roll(IDS, seed)[:20], threads).argmax())
    for i in range(30):
        out.append(model.step(cache, token, 0.9, 1.0, 0, ((seed + i) % 7) / 7, None, threads))
        token = out[-1][0]
    return out


def test_concurrent_callers_get_what_each_would_get_alone(build: Callable[..., Any]) -> None:
    model = build({"kind": "trellis", "bits": 2, "rank": 2}, rotated=True, **SIZES).model()
    alone = [generate(model, seed, 1) for seed in range(8)]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda seed: generate(model, seed, 1 + seed % 3), range(8)))
    assert together == alone


def test_callers_of_one_cache_take_turns(build: Callable[..., Any]) -> None:
    model = build(**SIZES).model()
    cache = model.new_cache(400)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda token: model.step(cache, token % 77, threads=2), range(400)))
    assert cache.length == 400


def test_another_thread_runs_during_a_native_call(build: Callable[..., Any]) -> None:
    model = build(**SIZES).model()
    gate, ran = threading.Lock(), threading.Event()
    gate.acquire()

    def wait_for_the_gate() -> None:
        with gate:
            ran.set()

    worker = threading.Thread(target=wait_for_the_gate)
    worker.start()
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1000)  # from here on only a call that releases the GIL lets the worker run
    try:
        gate.release()
        for _ in range(200):
            model.prefill(model.new_cache(60), IDS)
            if ran.is_set():
                break
        progressed = ran.is_set()
    finally:
        sys.setswitchinterval(interval)
        worker.join()
    assert progressed
