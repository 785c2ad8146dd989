"""`leanto demo`: the whole journey on this machine. The story is leanto.demo.journey; here are its options."""

from __future__ import annotations

import argparse
from typing import Any


def add(commands: Any) -> None:
    """Add the command."""
    about = "Start a private compute node on loopback and run real requests through the whole journey."
    parser = commands.add_parser("demo", help="the whole journey, on this machine", description=about)
    parser.add_argument("--json", action="store_true", help="JSON lines instead of a table")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Exit code 0 if every request was answered."""
    from leanto.demo.journey import demo

    return demo(as_json=options.json)
