"""`leanto policy show` prints the shipped policy as written, or a file as it was understood."""

from __future__ import annotations

import argparse
import json
from typing import Any

from leanto.policy import load_policy
from leanto.policy.schema import default_text


def add(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser("policy", help="show a policy", description="Show the policy in force, or check a file.")
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    show = actions.add_parser("show", help="the shipped policy, or a file as it is understood")
    show.add_argument("file", nargs="?", metavar="FILE", help="policy TOML; errors name file and line")
    show.set_defaults(run=run_show)


def run_show(options: argparse.Namespace) -> int:
    """The default as TOML, ready to be copied and changed; a file as JSON with every default filled in, and its hash."""
    if options.file is None:
        print(default_text(), end="")
    else:
        policy = load_policy(options.file)
        print(json.dumps({"hash": policy.hash, **policy.to_dict()}, indent=2))
    return 0
