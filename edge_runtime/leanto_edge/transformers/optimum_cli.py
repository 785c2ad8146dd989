"""`optimum-cli leanto compress`: the options of a compression on Optimum's command line.

Registered by the package optimum-leanto. The work is leanto_edge.compress; importing this file loads no torch.
"""

from __future__ import annotations

import argparse
from typing import Any

from optimum.commands.base import BaseOptimumCLICommand, CommandInfo


class CompressCommand(BaseOptimumCLICommand):  # type: ignore[misc]
    """A model becomes an artifact."""

    @staticmethod
    def parse_args(parser: Any) -> None:
        """The most used options of leanto_edge.compress.compress."""
        parser.add_argument("-m", "--model", required=True, help="a Hugging Face folder, or a hub id")
        parser.add_argument("-o", "--output", required=True, help="artifact directory to make; must not exist")
        parser.add_argument("--calibration", required=True, metavar="TEXT", help="text like what the model will see")
        parser.add_argument("--bits", type=float, default=4, help="bits per weight, on the average (default: 4)")
        parser.add_argument("--profile", choices=("best", "fast", "plain"), default="best", help="codes to choose from (default: best)")
        parser.add_argument("--recover-minutes", type=float, default=0.0, metavar="M", help="of distillation at the end (default: 0)")
        parser.add_argument("--calibration-tokens", type=int, default=32_768, metavar="N", help="(default: 32768)")
        parser.add_argument("--held-out-tokens", type=int, default=8_192, metavar="N", help="for the measurement (default: 8192)")
        parser.add_argument("--seed", type=int, default=0, help="of the rotations (default: 0)")
        parser.add_argument("--threads", type=int, help="default: all CPUs")

    def run(self) -> None:
        """Compress, and print what came of it; a mistake of the user's ends the program with one line."""
        from leanto_edge.errors import EdgeError
        from leanto_edge.transformers.optimum import LeantoQuantizer

        options: dict[str, Any] = vars(self.args or argparse.Namespace()).copy()
        model, output = options.pop("model"), options.pop("output")
        options.pop("func", None)
        try:
            report = LeantoQuantizer.from_pretrained(model).quantize(output, **options)
        except (EdgeError, ValueError) as error:
            raise SystemExit(f"optimum-cli leanto compress: {error}") from None
        print(f"{output}: {report.stored_bytes} bytes, {report.bits_per_weight:.2f} bits a weight")  # noqa: T201


class LeantoCommand(BaseOptimumCLICommand):  # type: ignore[misc]
    """`optimum-cli leanto`."""

    COMMAND = CommandInfo(name="leanto", help="Compress models for leanto.")
    SUBCOMMANDS = (CommandInfo(name="compress", help="A model becomes a leanto artifact.", subcommand_class=CompressCommand),)
