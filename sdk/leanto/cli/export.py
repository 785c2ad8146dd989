"""`leanto export`: an artifact becomes a file that other engines read. The work is leanto_edge.export.gguf; here are its options."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from leanto.cli.output import check_new
from leanto.errors import MissingExtra, ModelError, OutputError


def add(commands: Any) -> None:
    """Add the command."""
    about = "Write a compressed model, its weights made dense, as a GGUF file for llama.cpp and its kin."
    parser = commands.add_parser("export", help="write a model as GGUF", description=about)
    parser.add_argument("artifact", metavar="ARTIFACT", help="artifact or Hugging Face folder")
    parser.add_argument("-o", "--output", required=True, metavar="FILE", help="GGUF file to make; must not exist")
    parser.add_argument("--type", choices=("q8_0", "f16"), default="q8_0", help="of the weights (default: q8_0)")
    parser.add_argument("--json", action="store_true", help="what was written as JSON")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Exit code 0 once the file is written whole; what llama.cpp does otherwise goes to standard error."""
    from leanto_edge import ArtifactError, DependencyError
    from leanto_edge.export.gguf import export_gguf

    check_new(options.output)
    try:
        found = export_gguf(options.artifact, options.output, options.type)
    except DependencyError:
        raise MissingExtra("leanto export", "gguf") from None
    except ArtifactError as error:
        kind = OutputError if error.path == Path(options.output) else ModelError
        raise kind(str(error), path=str(error.path)) from None
    for note in found.notes:
        print(f"leanto: note: {note}", file=sys.stderr)
    written = {"file": str(found.path), "bytes": found.stored_bytes, "type": options.type, "notes": found.notes}
    print(json.dumps(written) if options.json else f"{found.path}: {found.stored_bytes} bytes, weights as {options.type}")
    return 0
