"""`leanto compress`: a model becomes an artifact. The work is leanto_edge.compress; here are its options and its progress bar."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from leanto.cli.output import check_new
from leanto.errors import MissingExtra, ModelError

if TYPE_CHECKING:
    from leanto_edge.compress import Report

_UNITS = {"": 1, "B": 1} | {f"{k}{b}": (1024 if "i" in b else 1000) ** n for n, k in enumerate("KMG", 1) for b in ("", "B", "iB")}


def add(commands: Any) -> None:
    """Add the command."""
    about = "Compress a model into an artifact. A run that was stopped goes on when called again with the same options."
    parser = commands.add_parser("compress", help="compress a model", description=about)
    parser.add_argument("source", help="a Hugging Face folder of a Llama, Mistral, Qwen, Phi-3, SmolLM or Gemma model, or a hub id")
    parser.add_argument("-o", "--output", required=True, metavar="OUT", help="artifact directory to make; must not exist")
    parser.add_argument("--calibration", required=True, metavar="TEXT", help="text like what the model will see")
    budget = parser.add_mutually_exclusive_group()
    budget.add_argument("--bits", type=float, default=4, metavar="B", help="average per weight of the whole file, like 2.3 (default: 4)")
    budget.add_argument("--bytes", type=size, metavar="SIZE", help="of the whole weight file, like 180MB")
    parser.add_argument("--profile", default="best", help="best quality (default), fast to decode, or plain scalar codes", metavar="NAME")
    parser.add_argument("--recover", type=float, default=0, metavar="MINUTES", help="distil scales, tables, factors and norms afterwards")
    parser.add_argument("--calibration-tokens", type=int, default=32_768, metavar="N", help="how much of it to use (default: 32768)")
    parser.add_argument("--guided", action="store_true", help="weigh tokens by how much their errors move the output")
    parser.add_argument("--uniform", action="store_true", help="the same bits for every matrix of the layers, instead of a budget")
    parser.add_argument("--embedding-bits", type=int, metavar="B", help="with --uniform: of embedding and head (default: 4, or 8)")
    parser.add_argument("--rank", type=int, default=0, metavar="R", help="with --uniform: of the low-rank term (default: 0)")
    parser.add_argument("--method", default="leanto", metavar="NAME", help="to compare, with --uniform: caldera, gptq or rtn, stored dense")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the rotations (default: 0)")
    parser.add_argument("--threads", type=int, metavar="N", help="default: all CPUs")
    parser.add_argument("--json", action="store_true", help="the report as JSON")
    parser.set_defaults(run=run)


def size(text: str) -> int:
    """Bytes of a text like 180MB, 1.5GiB or 944486; ValueError for any other, which argparse tells the user of."""
    number = text.rstrip("KMGiB")
    return int(float(number) * _UNITS[text[len(number) :]]) if text[len(number) :] in _UNITS else int(text)


def run(options: argparse.Namespace) -> int:
    """Exit code 0 once the artifact is written whole."""
    _check(options)
    try:
        from leanto_edge.compress import compress
    except ModuleNotFoundError as error:
        if error.name is not None and error.name.startswith("leanto"):
            raise
        raise MissingExtra("leanto compress", "compress") from None
    from leanto_edge import ArtifactError

    try:
        with Bar() as bar:
            report = compress(
                options.source,
                options.output,
                calibration=options.calibration,
                bits=options.bits,
                budget_bytes=options.bytes,
                profile=options.profile,
                recover_minutes=options.recover,
                guided=options.guided,
                uniform=options.uniform,
                method=options.method,
                embedding_bits=options.embedding_bits,
                rank=options.rank,
                seed=options.seed,
                calibration_tokens=options.calibration_tokens,
                threads=options.threads,
                progress=bar.update,
            )
    except ArtifactError as error:
        raise ModelError(str(error), path=str(error.path)) from None
    except (ValueError, OSError) as error:
        raise ModelError(f"{options.source}: cannot be compressed: {error}") from None
    print(json.dumps(report.as_dict()) if options.json else summary(report, options.output))
    return 0


def summary(report: Report, output: str) -> str:
    """The report's table, what to make of it, and what to do next."""
    warning = "\nunfit: it differs from its teacher in most words; give it more bits. Its confidence will not be trusted." * (
        not report.quality.fit
    )
    return f"{report.table()}\n{warning}\ntook {report.seconds:.0f} s; see {output}/report.html; try it: leanto ask --model {output} …"


def _check(options: argparse.Namespace) -> None:
    """What can be said before torch is imported."""
    check_new(options.output)
    if not os.access(options.calibration, os.R_OK) or Path(options.calibration).is_dir():
        raise ModelError(f"{options.calibration}: the calibration text cannot be read; give a text file", path=options.calibration)
    if not options.bits >= 1:
        raise ModelError(f"--bits {options.bits}: at least 1")
    if options.threads is not None and options.threads < 1:
        raise ModelError(f"--threads {options.threads}: at least 1")


class Bar:
    """A progress bar with the time left, on stderr. The total changes with the stage."""

    def __enter__(self) -> Bar:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

        columns = (TextColumn("{task.description:<9}"), BarColumn(), TaskProgressColumn(), TextColumn("{task.fields[left]}"))
        self._progress = Progress(*columns, console=Console(file=sys.stderr))
        self._tasks: dict[str, Any] = {}
        return self

    def update(self, stage: str, done: int, total: int, seconds_left: float) -> None:
        """What leanto_edge.compress and its adapt report."""
        if not self._tasks:
            self._progress.start()  # not before: an error at once is then one line
        if stage not in self._tasks:
            self._tasks[stage] = self._progress.add_task(stage, total=total, left="")
        left = f"{seconds_left:.0f} s left" if 0 < done < total else ""
        self._progress.update(self._tasks[stage], completed=done, total=total, left=left)

    def __exit__(self, *_: object) -> None:
        if self._tasks:
            self._progress.stop()
