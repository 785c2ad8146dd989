"""Looks for messages that break what node.py promises, led by the lines of leanto_cloud and leanto_wire that they reach (`make fuzz`).

`python -m fuzz.explore_node FOLDER -max_total_time=SECONDS`; see explore.py. Needs atheris.
"""

from __future__ import annotations

import gc
import sys
from types import FunctionType

import atheris

from fuzz.explore import Choices
from fuzz.node import check, malformed


def try_one(content: bytes) -> None:
    """Three inputs of four are the message itself, the fourth says how to change a sound one."""
    kind = ("sealed", "inner", "evidence", "")[content[0] & 3 if content else 3]
    check(*((kind, content[1:]) if kind else malformed(Choices(content))))


def main() -> None:
    """Run until the time is over or something breaks."""
    for function in gc.get_objects():  # atheris' own import hook does not see modules of an editable installation
        if isinstance(function, FunctionType) and (function.__module__ or "").startswith(("leanto_cloud", "leanto_wire")):
            atheris.instrument_func(function)
    atheris.Setup([*sys.argv, "-rss_limit_mb=1024", "-timeout=20", "-max_len=2048"], try_one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
