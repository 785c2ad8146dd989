"""Looks for messages that break what node.py promises, led by the lines of leanto_cloud and leanto_wire that they reach (`make fuzz`).

`python -m fuzz.explore_node FOLDER -max_total_time=SECONDS`; see explore.py. Needs atheris.
"""

from __future__ import annotations

import gc
import sys
from types import FunctionType

import atheris

from fuzz.explore import Choices
from fuzz.node import TARGETS
from fuzz.target import came_of


def try_one(content: bytes) -> None:
    """The first byte says which target, and whether the others are its message or say how to change a sound one."""
    first, rest = content[:1] or b"\0", content[1:]
    target = TARGETS[first[0] // 2 % len(TARGETS)]
    came_of(target, rest if first[0] % 2 else target.make(Choices(rest)))


def main() -> None:
    """Run until the time is over or something breaks."""
    for function in gc.get_objects():  # atheris' own import hook does not see modules of an editable installation
        if isinstance(function, FunctionType) and (function.__module__ or "").startswith(("leanto_cloud", "leanto_wire")):
            atheris.instrument_func(function)
    atheris.Setup([*sys.argv, "-rss_limit_mb=1024", "-timeout=20", "-max_len=2048"], try_one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
