"""`leanto train-router`: a prompt router from logged outcomes, on this device. The work is leanto.router."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

from leanto.cli.output import check_new
from leanto.errors import ModelError

if TYPE_CHECKING:
    from leanto.router import Router


def add(commands: Any) -> None:
    """Add the command."""
    about = "Learn from logged outcomes which prompts the local model answers no worse than the cloud. Nothing is sent anywhere."
    parser = commands.add_parser("train-router", help="learn which prompts need the cloud", description=about)
    parser.add_argument(
        "outcomes", metavar="OUTCOMES.jsonl", help='a line: {"prompt": …, "local_right": true, "cloud_right": true, "group": …}'
    )
    parser.add_argument("-o", "--out", required=True, metavar="FILE", help="router to write (safetensors); must not exist")
    parser.add_argument("--json", action="store_true", help="the report as JSON")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Exit code 0 once the router is written whole."""
    check_new(options.out)
    from leanto.router import read_outcomes, train

    outcomes = read_outcomes(options.outcomes)
    try:
        router = train(outcomes)
    except ValueError as error:
        raise ModelError(f"{options.outcomes}: nothing can be learnt: {error}", path=options.outcomes) from None
    router.save(options.out)
    print(json.dumps(router.report) if options.json else summary(router, options.out))
    return 0


def summary(router: Router, out: str) -> str:
    """What the router is worth on prompts, or groups of prompts, that it was not trained on."""
    report = router.report
    new = (
        f"prompts of {report['groups']} groups held out whole" if report["held_out"] == "groups" else "prompts held out, of the same kinds"
    )
    recovered = "–, for the cloud is not the better one" if report["apgr"] is None else f"{report['apgr']:.3f} of the gap (chance: 0.5)"
    rows = (
        ("outcomes", f"{report['outcomes']:,}; the local answer was not worse in {report['not_worse']:.1%}"),
        ("judged by", new),
        ("APGR", recovered),
        ("AUROC", f"{report['auroc']:.3f}; calibration error {report['ece']:.3f}"),
        ("router", out),
    )
    return "\n".join(f"{label:<12} {value}" for label, value in rows)
