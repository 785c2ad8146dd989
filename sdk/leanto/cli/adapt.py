"""`leanto adapt`: a local model learns from the user's own examples, on this device. The work is leanto_edge.compress.adaptation."""

from __future__ import annotations

import argparse
import json
import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from leanto.cli.compress import Bar
from leanto.cli.output import check_new
from leanto.errors import MissingExtra, ModelError

if TYPE_CHECKING:
    from leanto_edge.compress import Adaptation

FORMS = 'one JSON object a line: {"prompt": …, "completion": …}, {"messages": […]} or {"text": …}'


def add(commands: Any) -> None:
    """Add the command."""
    about = "Teach a model your own examples, on this device alone. The model stays as it is; what it learns is a small file beside it."
    parser = commands.add_parser("adapt", help="teach a model your own examples", description=about)
    parser.add_argument("model", nargs="?", metavar="ARTIFACT", help="artifact or Hugging Face folder (default: embedded)")
    parser.add_argument("--data", required=True, metavar="FILE", help=FORMS)
    parser.add_argument("--minutes", type=float, required=True, metavar="M", help="at most so long; less where nothing improves any more")
    parser.add_argument("-o", "--output", required=True, metavar="FILE", help="adapter to write; must not exist")
    parser.add_argument("--rank", type=int, default=8, metavar="R", help="of what is learnt, for each matrix (default: 8)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of all that is random (default: 0)")
    parser.add_argument("--json", action="store_true", help="the result as JSON")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Exit code 0 once the adapter is written whole."""
    _check(options)
    try:
        from leanto_edge.compress import adapt
    except ModuleNotFoundError as error:
        if error.name is not None and error.name.startswith("leanto"):
            raise
        raise MissingExtra("leanto adapt", "compress") from None
    import leanto_edge

    model = options.model or leanto_edge.embedded()
    how = {"minutes": options.minutes, "rank": options.rank, "seed": options.seed}
    try:
        with Bar() as bar:
            result = adapt(model, options.output, data=options.data, progress=bar.update, **how)
    except leanto_edge.ArtifactError as error:
        raise ModelError(str(error), path=str(error.path)) from None
    except (ValueError, OSError) as error:
        raise ModelError(f"{model}: cannot be adapted: {error}") from None
    print(json.dumps(result.as_dict()) if options.json else summary(result, options))
    return 0


def summary(result: Adaptation, options: argparse.Namespace) -> str:
    """What was learnt and what it costs, as a table."""
    new = ", ".join(result.new_intents) or "none"
    rows = (
        ("examples", f"{result.examples - result.set_aside} to learn from, {result.set_aside} set aside"),
        ("new intents", new),
        ("loss", f"{result.loss_before:.3f} → {result.loss_after:.3f} nats a token, on those set aside"),
        ("divergence", f"{result.divergence:.4f} nats a token from the base, on text of its own"),
        ("took", f"{result.seconds:.0f} s, {result.steps} steps at rank {result.rank}"),
        ("adapter", f"{options.output}: {result.stored_bytes:,} bytes, for the build {result.base[:12]} alone"),
        ("try it", f"leanto ask{f' --model {options.model}' if options.model else ''} --adapter {options.output} …"),
    )
    return "\n".join(f"{label:<12} {value}" for label, value in rows)


def _check(options: argparse.Namespace) -> None:
    """What can be said before torch is imported."""
    check_new(options.output)
    if not os.access(options.data, os.R_OK) or Path(options.data).is_dir():
        raise ModelError(f"{options.data}: the examples cannot be read; give a file with {FORMS}", path=options.data)
    if not 0 < options.minutes < math.inf:
        raise ModelError(f"--minutes {options.minutes}: must be above 0")
    if options.rank < 1:
        raise ModelError(f"--rank {options.rank}: at least 1")
    if options.seed < 0:
        raise ModelError(f"--seed {options.seed}: at least 0")
