"""Looks for malformed folders that break what loader.py promises, led by the lines of leanto_edge that they reach (`make fuzz`).

`python -m fuzz.explore FOLDER -max_total_time=SECONDS` keeps what it learns in FOLDER and leaves a file of what broke, which
`python -m fuzz.explore FILE` tries again; more arguments are libFuzzer's. Needs atheris.
"""

from __future__ import annotations

import gc
import sys
import tempfile
from pathlib import Path
from random import Random
from types import FunctionType

import atheris

from fuzz.loader import check
from fuzz.mutations import malformed


class Choices(Random):
    """A Random whose choices are those that the fuzzer's bytes say; zeros when they have run out."""

    def __init__(self, content: bytes) -> None:
        super().__init__(0)
        self._content = int.from_bytes(content, "little")

    def getrandbits(self, k: int) -> int:
        """The next `k` bits."""
        bits, self._content = self._content & ((1 << k) - 1), self._content >> k
        return bits

    def random(self) -> float:
        """The next byte, in [0, 1)."""
        return self.getrandbits(8) / 256


def main() -> None:
    """Run until the time is over or something breaks."""
    for function in gc.get_objects():  # atheris' own import hook does not see modules of an editable installation
        if isinstance(function, FunctionType) and (function.__module__ or "").startswith("leanto_edge"):
            atheris.instrument_func(function)
    with tempfile.TemporaryDirectory() as place:

        def try_one(content: bytes) -> None:
            check(malformed(Choices(content)), Path(place) / "model")

        atheris.Setup([*sys.argv, "-rss_limit_mb=1024", "-timeout=20", "-max_len=512"], try_one)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
