"""Speed and memory of the engine on random weights, beside transformers and, with --peers, llama.cpp, ik_llama.cpp and ONNX Runtime.

`python -m benchmarks.decode [--quick] [--json] [--peers PYTHON] [--shapes pocket 110M 1B] [--models DIR]`. Every engine runs in a process
of its own; all are asked in turn, round after round, and the medians are given. `--peers`: the Python of an environment with
ik-llama-cpp-python, llama-cpp-python, onnxruntime-genai (`make bench-peers` makes one). `--contention`: with busy neighbours instead.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from benchmarks.measure import ROOT, Row, median, parser, publish
from benchmarks.peers.bounds import bounds
from benchmarks.peers.models import B1, M110, OURS, POCKET, Contender, Shape, ours, peers, transformers

WORKER = Path(__file__).with_name("peers") / "worker.py"
SHAPES = {shape.name: shape for shape in (POCKET, M110, B1)}
CONTEXTS = (0, 1024, 4096)
PREFILLS = (128, 1024)
QUICK_FORMS = ("best 4", "best 2")
CONTENDED = ("leanto best 4", "leanto fast 2", "ik_llama.cpp Q4_K_R4", "llama.cpp Q4_K_M", "onnxruntime-genai int4")


class Worker:
    """An engine in its own process, with a model loaded and one token made."""

    def __init__(self, contender: Contender, threads: int, context: int) -> None:
        self.contender = contender
        start = time.perf_counter()
        command = [contender.python, WORKER, contender.engine, contender.path, threads, context]
        self.process = subprocess.Popen(
            list(map(str, command)), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        self._answer()
        self.cold_start = time.perf_counter() - start

    def ask(self, **what: Any) -> Any:
        """One measurement; RuntimeError if the engine has ended."""
        assert self.process.stdin
        self.process.stdin.write(json.dumps(what) + "\n")
        self.process.stdin.flush()
        return self._answer()

    def close(self) -> None:
        """End the process."""
        self.process.kill()
        self.process.communicate()

    def _answer(self) -> Any:
        assert self.process.stdout
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.contender.name} ended")
        return json.loads(line)


def compare(shape: Shape, contenders: Sequence[Contender], threads: int, rounds: int, folder: Path) -> list[Row]:
    """A row for each contender: decode and prefill in tokens/s, its share of the machine's bound, memory, and start to first token."""
    contexts = [at for at in CONTEXTS if at < shape.context and (rounds > 3 or at == 0)]
    prefills = [count for count in PREFILLS if count < shape.context and (rounds > 3 or count == PREFILLS[0])]
    tokens = 64 if shape is POCKET else 12
    limits = bounds(threads, folder)
    with ExitStack() as stack:
        workers = []
        for contender in contenders:
            try:
                workers.append(stack.enter_context(_working(contender, threads, min(shape.context, 5000))))
            except RuntimeError as error:
                print(f"skipped: {error}", flush=True)
        decode: dict[Worker, list[float]] = {worker: [] for worker in workers}
        prefill: dict[Worker, list[float]] = {worker: [] for worker in workers}
        for _ in range(rounds):
            for worker in workers:
                decode[worker] += worker.ask(decode=tokens, at=[0])["seconds"]
                prefill[worker].append(worker.ask(prefill=prefills[0])["seconds"])
        rows = []
        for worker in workers:
            best, first = tokens / median(decode[worker]), prefills[0] / median(prefill[worker])
            contender = worker.contender
            row: Row = {"shape": shape.name, "engine": contender.engine, "form": contender.form, "threads": threads, "decode": best}
            if len(contexts) > 1:
                seconds = worker.ask(decode=8, at=contexts[1:])["seconds"]
                row |= {f"decode at {at}": 8 / took for at, took in zip(contexts[1:], seconds, strict=True)}
            row[f"prefill {prefills[0]}"] = first
            row |= {f"prefill {count}": count / worker.ask(prefill=count)["seconds"] for count in prefills[1:]}
            read = contender.file_bytes * (shape.read_weights / _weights(shape))
            rows.append(
                row
                | {
                    "of bandwidth": best * read / limits["bytes_per_second"],
                    "of int8 peak": first * shape.read_weights / limits["products_per_second"],
                    "file MB": contender.file_bytes / 1e6,
                    "resident MB": worker.ask(memory=True)["resident_bytes"] / 1e6,
                    "cold start s": worker.cold_start,
                }
            )
    return rows


def contention(shape: Shape, contenders: Sequence[Contender], rounds: int) -> list[Row]:
    """Decode on two threads while none, one and two other processes keep a core busy each."""
    figures: dict[tuple[str, int], list[float]] = {}
    with ExitStack() as stack:
        workers = [stack.enter_context(_working(contender, 2, 64)) for contender in contenders if contender.name in CONTENDED]
        for _ in range(rounds):
            for busy in range(3):
                with ExitStack() as neighbours:
                    for _ in range(busy):
                        neighbours.enter_context(_busy())
                    for worker in workers:
                        seconds = worker.ask(decode=8, at=[0])["seconds"][0]
                        figures.setdefault((worker.contender.name, busy), []).append(8 / seconds)
    names = list(dict.fromkeys(name for name, _ in figures))
    return [
        {"shape": shape.name, "engine": name, "quiet": median(figures[name, 0])}
        | {f"{busy} busy": median(figures[name, busy]) / median(figures[name, 0]) for busy in (1, 2)}
        for name in names
    ]


@contextmanager
def _working(contender: Contender, threads: int, context: int) -> Iterator[Worker]:
    worker = Worker(contender, threads, context)
    try:
        yield worker
    finally:
        worker.close()


@contextmanager
def _busy() -> Iterator[None]:
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def _weights(shape: Shape) -> int:
    """All weights in the files: a tied embedding is there once."""
    return shape.read_weights + (0 if shape.tied else shape.vocab * shape.hidden)


def measure(quick: bool, peer_python: str | None = None, shapes: Sequence[Shape] = (POCKET, M110), folder: Path | None = None) -> list[Row]:
    """All rows."""
    folder = folder or ROOT / "build" / "benchmark-models"
    folder.mkdir(parents=True, exist_ok=True)
    rows: list[Row] = []
    for shape in shapes:
        contenders = _contenders(shape, folder, peer_python)
        for threads in (1, 2):
            rows += compare(shape, contenders, threads, 3 if quick else 7, folder)
    return rows


def _contenders(shape: Shape, folder: Path, peer_python: str | None) -> list[Contender]:
    found = list(ours(shape, folder, sys.executable, tuple(OURS) if peer_python else QUICK_FORMS))
    if shape is not B1:
        found.append(transformers(shape, folder, sys.executable))
    return found + (list(peers(shape, folder, peer_python)) if peer_python else [])


def main() -> None:
    """A table, or one JSON object."""
    options = parser(__doc__)
    options.add_argument("--peers", metavar="PYTHON", help="the Python of an environment that has the peers")
    options.add_argument("--shapes", nargs="*", choices=list(SHAPES), default=["pocket", "110M"])
    options.add_argument("--models", type=Path, default=ROOT / "build" / "benchmark-models", help="where the files are kept")
    options.add_argument("--contention", action="store_true")
    args = options.parse_args()
    shapes = [SHAPES[name] for name in args.shapes]

    def contended() -> list[Row]:
        args.models.mkdir(parents=True, exist_ok=True)
        return [row for shape in shapes for row in contention(shape, _contenders(shape, args.models, args.peers), 3 if args.quick else 5)]

    publish([("decode", contended if args.contention else lambda: measure(args.quick, args.peers, shapes, args.models))], as_json=args.json)


if __name__ == "__main__":
    main()
