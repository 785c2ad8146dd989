"""A client in a process of its own: asks what it reads, one JSON object a line, and says how long the first token took.

`python -m benchmarks.asker ADDRESS ROOT PADDING CADENCE_MS CADENCE_FRAMES`, PADDING being a level or "unpadded" (a control; see node.py).
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from benchmarks.node import frame_bare
from leanto.remote import RemoteLeg, RemoteRequest, RemoteTarget

Ask = Callable[[str, str, int], float]


@contextmanager
def asker(target: RemoteTarget, *, unpadded: bool = False) -> Iterator[Ask]:
    """A function of (prompt, task, most tokens) that has it asked there, and returns the time to the first token in seconds."""
    level = "unpadded" if unpadded else target.padding
    arguments = [target.address, target.development_root or "", level, str(target.cadence_ms), str(target.cadence_frames)]
    command = [sys.executable, "-m", "benchmarks.asker", *arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1) as process:
        assert process.stdin
        assert process.stdout
        write, read = process.stdin, process.stdout

        def ask(prompt: str, task: str, max_tokens: int) -> float:
            print(json.dumps({"prompt": prompt, "task": task, "max_tokens": max_tokens}), file=write, flush=True)
            return float(read.readline())

        yield ask
        write.close()


async def _serve(target: RemoteTarget) -> None:
    leg = RemoteLeg(target)
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        asked: dict[str, Any] = json.loads(line)
        start, first_s = time.perf_counter(), None
        async for _ in leg.generate(RemoteRequest(timeout_s=60.0, **asked)):
            first_s = first_s or time.perf_counter() - start
        print(first_s, flush=True)
    await leg.close()


def main() -> None:
    """Ask until the input ends."""
    address, root, padding, cadence_ms, frames = sys.argv[1:]
    if padding == "unpadded":
        frame_bare()
        padding = "blocks"
    asyncio.run(_serve(RemoteTarget(address, root, padding=padding, cadence_ms=int(cadence_ms), cadence_frames=int(frames))))  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
