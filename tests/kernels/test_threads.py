from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

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


def test_two_models_in_two_threads_do_not_meet(build: Callable[..., Any]) -> None:
    models = [build({"kind": "trellis", "bits": 2}, rotated=True, **SIZES).model(), build({"kind": "int8"}, seed=1, **SIZES).model()]
    alone = [generate(model, 3, 1) for model in models]
    assert alone[0] != alone[1]
    for _ in range(5):
        with ThreadPoolExecutor(2) as pool:
            assert list(pool.map(lambda model: generate(model, 3, 2), models)) == alone


def in_child(body: Callable[[], bool]) -> int:
    """Whether `body` holds in a forked child: 0 if it does. A child that hangs is ended by its alarm."""
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(60)
        held = False
        try:
            held = body()
        finally:
            os._exit(not held)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_computes_the_same_with_threads_of_its_own(build: Callable[..., Any]) -> None:
    model = build({"kind": "trellis", "bits": 2}, rotated=True, **SIZES).model()
    tasks = Path("/proc/self/task")
    alone = generate(model, 3, 2)

    def right() -> bool:
        return generate(model, 3, 2) == alone and (not tasks.exists() or len(list(tasks.iterdir())) > 1)

    assert in_child(right) == 0
    assert in_child(lambda: right() and in_child(right) == 0) == 0  # and so does a child of it
    assert right()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.skipif("asan" in os.environ.get("LD_PRELOAD", ""), reason="AddressSanitizer's allocator may be locked at the fork, for good")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_child_forked_in_the_middle_of_a_loop_does_not_wait_for_threads_that_it_has_not(build: Callable[..., Any]) -> None:
    model = build({"kind": "trellis", "bits": 2}, rotated=True, **SIZES).model()
    alone, stop = generate(model, 3, 2), threading.Event()

    def work() -> None:
        while not stop.is_set():
            generate(model, 5, 2)

    workers = [threading.Thread(target=work) for _ in range(2)]
    for worker in workers:
        worker.start()
    try:
        assert [in_child(lambda: generate(model, 3, 2) == alone) for _ in range(20)] == [0] * 20
    finally:
        stop.set()
        for worker in workers:
            worker.join()
