"""The `leanto` command: options in, exit code out. 0 fine, 2 the user's mistake, 1 a fault, 130 Ctrl-C; errors are one line."""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from leanto import __version__
from leanto.cli import adapt, ask, audit, bench, calibrate, certify, compress, demo, doctor, evidence, export, policy, train_router
from leanto.errors import LeantoError

COMMANDS = (ask, doctor, evidence, demo, bench, compress, adapt, export, calibrate, certify, audit, train_router, policy)


class Parser(argparse.ArgumentParser):
    """argparse, but a mistake is one line."""

    def error(self, message: str) -> NoReturn:
        """Exit with code 2."""
        self.exit(2, f"{self.prog}: {' '.join(message.split())}; see {self.prog} --help\n")


def build_parser() -> argparse.ArgumentParser:
    """The whole command line."""
    parser = Parser(prog="leanto", description="A lean language model that leans on a larger one only when the answer needs it.")
    parser.add_argument("--version", action="version", version=f"leanto {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=Parser)
    for command in COMMANDS:
        command.add(commands)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal that cannot show a character must not end the program
    try:
        options = build_parser().parse_args(arguments)
        code = int(options.run(options))
        sys.stdout.flush()
        return code
    except LeantoError as error:
        print(f"leanto: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("leanto: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
