"""What must hold of the loader whatever it is given: a typed refusal in one line, or a model that generates with finite evidence.

`python -m fuzz.loader FIRST COUNT` tries that many malformed folders in this process, with a bound on its memory, and says what went
wrong with which of them.
"""

from __future__ import annotations

import faulthandler
import math
import os
import resource
import shutil
import sys
import tempfile
import traceback
from collections import Counter
from pathlib import Path
from random import Random

from fuzz.mutations import Folder, Place, malformed
from fuzz.seeds import ADAPTER, SEEDS, seed
from leanto_edge import EdgeError, GenerationRequest, SamplingParams, load

MEMORY_BYTES = 256 << 20  # that a folder of some kilobytes may take beyond what Python and its libraries do
SECONDS = 20  # that one folder may take
LINE_CHARACTERS = 600
SAMPLING = SamplingParams(max_tokens=4, temperature=0.7, seed=1)


def write(folder: Folder, path: Path) -> None:
    """Put `folder` where `path` is, in the place of what is there."""
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir()
    for name, content in folder.items():
        file = path / name
        match content:
            case bytes():
                file.write_bytes(content)
            case Place.DIRECTORY:
                file.mkdir()
            case Place.LOOP:
                file.symlink_to(file)
            case Place.DEVICE:
                file.symlink_to("/dev/zero")
            case Place.PIPE:
                os.mkfifo(file)
            case Place.NOTHING:
                pass


def check(folder: Folder, path: Path) -> str:
    """Load and run `folder` by way of `path`; returns what became of it. Raises whatever the loader must not."""
    write(folder, path)
    try:
        engine = load(path, adapter=path / ADAPTER if ADAPTER in folder else None)
        for task in engine.info.tasks:
            for token in engine.generate(GenerationRequest("Light on at six", task, SAMPLING, draft_tokens=2, top_logprobs=2)):
                assert 0 <= token.id < engine.info.vocab_size
                evidence = (token.logprob, token.margin, token.entropy, *(logprob for _, logprob in token.top))
                assert all(map(math.isfinite, evidence)), token
    except EdgeError as error:
        line = str(error)
        assert line.isprintable(), line
        assert len(line) - len(str(path)) < LINE_CHARACTERS, line
        return type(error).__name__
    return "loaded"


def bound_memory() -> None:
    """Let this process have MEMORY_BYTES more than it has. Not under AddressSanitizer, which reserves terabytes."""
    if "libasan" in Path("/proc/self/maps").read_text():
        return
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + MEMORY_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def main() -> None:
    """Print each failure with its number, and at the end a count of what became of all."""
    first, count = map(int, sys.argv[1:])
    found: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "model"
        for name in SEEDS:
            assert check(dict(seed(name)), path) == "loaded", name
        bound_memory()
        for number in range(first, first + count):
            faulthandler.dump_traceback_later(SECONDS, exit=True)
            print(f"case {number}", file=sys.stderr)
            try:
                found[check(malformed(Random(number)), path)] += 1
            except BaseException as error:
                if isinstance(error, KeyboardInterrupt):
                    raise
                found["failed"] += 1
                print(f"{number}: {''.join(traceback.format_exception(error)[-3:])}")
    faulthandler.cancel_dump_traceback_later()
    print(dict(found), f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10} MiB")


if __name__ == "__main__":
    main()
