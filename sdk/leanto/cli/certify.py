"""`leanto certify`: labelled pairs become a signed threshold, or the reason why they cannot. The work is certificates/selective_risk.py."""

from __future__ import annotations

import argparse
import base64
import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from leanto.certificates.certified import score_name
from leanto.cli.output import check_new, write_new
from leanto.errors import CertificateError, ModelError
from leanto.jsonl import read_rows

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from leanto.certificates.selective_risk import Certified, Feasibility

FORM = 'one JSON object a line: {"score": 0 to 1, "worse": true if the cloud\'s answer was better}, and perhaps {"task": …}'
STRICTER = (1.0, 0.5, 0.25)  # of alpha: what an alarm of the audit can fall back to


def add(commands: Any) -> None:
    """Add the command."""
    about = "Find the threshold above which at most alpha of the local answers are worse than the cloud's, with confidence 1 − delta."
    parser = commands.add_parser("certify", help="a guarantee for local answers", description=about)
    parser.add_argument("pairs", metavar="PAIRS", help=f"labelled answers, not those the score was fitted on; {FORM}")
    parser.add_argument("--alpha", type=float, default=0.05, help="risk to promise (default: 0.05)")
    parser.add_argument("--delta", type=float, default=0.05, help="chance that the promise is wrong (default: 0.05)")
    parser.add_argument("--task", default="call", metavar="NAME", help="lines of other tasks are left out (default: call)")
    parser.add_argument("--model", metavar="ARTIFACT", help="the edge build that answered (default: embedded)")
    parser.add_argument("--adapter", metavar="FILE", help="what the edge build has learnt on this device: see `leanto adapt`")
    parser.add_argument("--cloud-model", metavar="ID", help="the cloud model it was compared with; --key needs it")
    parser.add_argument("--score", metavar="NAME", help="what the score is (default: the model's own confidence)")
    parser.add_argument("--days", type=float, default=90.0, metavar="D", help="until it expires (default: 90)")
    parser.add_argument("--key", metavar="FILE", help="Ed25519 private key (PEM) that signs it; goes with --out")
    parser.add_argument("--out", metavar="FILE", help="certificate to write; must not exist")
    parser.add_argument("--json", action="store_true", help="the report as JSON")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Exit code 0 if the promise can be certified, 1 if not."""
    from leanto.certificates.selective_risk import certify, feasibility  # NumPy, which the other commands need not pay for

    _check(options)
    key = _read_key(options.key) if options.key else None
    scores, worse = read_pairs(options.pairs, options.task)
    try:
        report = feasibility(scores, worse, options.alpha, options.delta)
        found = [one for factor in STRICTER if (one := certify(scores, worse, factor * options.alpha, options.delta))]
    except ValueError as error:
        raise CertificateError(f"{options.pairs}: {error}") from None
    certified = [one for one in found if one.alpha == options.alpha]
    written = {}
    if key and certified:
        written = {"file": options.out, "public_key": _write(options, found, key)}
    if options.json:
        print(json.dumps({"feasibility": asdict(report), "certified": [asdict(one) for one in found] if certified else [], **written}))
    else:
        print(describe(report, found if certified else [], written))
    return 0 if certified else 1


def read_pairs(path: str, task: str) -> tuple[list[float], list[bool]]:
    """Scores and labels of `task`. Raises CertificateError with the line that is none."""
    pairs = [pair for pair in read_rows(path, _pair, form=FORM, error=CertificateError) if pair[2] in (task, None)]
    if not pairs:
        raise CertificateError(f"{path}: no pairs for the task {task!r}; expected {FORM}")
    return [score for score, _, _ in pairs], [worse for _, worse, _ in pairs]


def describe(report: Feasibility, found: list[Certified], written: dict[str, str]) -> str:
    """What can be hoped for first, then what was certified."""
    low, high = report.risk_bounds
    needed = "more than a million" if report.labels_needed is None else f"about {report.labels_needed:,}"
    rows = [
        ("pairs", f"{report.n:,}, of which {report.risk:.1%} are worse than the cloud's ({low:.1%} to {high:.1%})"),
        ("oracle", f"even one that knows which are could keep at most {report.oracle_share:.1%} local at {report.alpha:.1%}"),
        ("this score", f"would keep {report.score_share:.1%} if these pairs were all there is"),
        ("labels", f"{needed} to certify 85 % of that" if report.score_share else "no number certifies it with this score"),
    ]
    for one in found:
        promise = f"score ≥ {one.threshold:.4f} keeps {one.kept_share:.1%} local, at most {one.alpha:.2%} worse"
        rows.append(("certified", f"{promise} ({one.worse} of {one.kept:,} were, bound {one.bound:.2%}), confidence {1 - one.delta:.0%}"))
    if not found:
        rows.append(("certified", "nothing: these answers belong to the cloud, or more labels are needed"))
    if written:
        rows += [("written", written["file"]), ("pin", written["public_key"])]
    return "\n".join(f"{label:<12} {value}" for label, value in rows)


def _pair(row: dict[str, Any]) -> tuple[float, bool, Any]:
    """Score, label and task."""
    score, worse = row["score"], row["worse"]
    if not isinstance(worse, bool) or isinstance(score, bool) or not 0 <= score <= 1:
        raise TypeError
    return float(score), worse, row.get("task")


def _check(options: argparse.Namespace) -> None:
    """What can be said before anything is read."""
    for name, value in (("--alpha", options.alpha), ("--delta", options.delta)):
        if not 0 < value < 1:
            raise CertificateError(f"{name} {value}: must lie between 0 and 1")
    if not 0 < options.days <= 3650:
        raise CertificateError(f"--days {options.days}: must be above 0 and at most 3650")
    if (options.key is None) != (options.out is None):
        raise CertificateError("--key and --out go together: a certificate that is not signed counts as none")
    if options.key and not options.cloud_model:
        raise CertificateError("--cloud-model is missing: a certificate holds for one cloud model only")
    if options.out:
        check_new(options.out)


def _read_key(path: str) -> Ed25519PrivateKey:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(Path(path).read_bytes(), password=None)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise CertificateError(f"{path}: not an Ed25519 private key in PEM without password: `openssl genpkey -algorithm ed25519`")
    return key


def _write(options: argparse.Namespace, found: list[Certified], key: Ed25519PrivateKey) -> str:
    """Write the signed certificate and return the public key to pin."""
    import leanto_edge
    from leanto.certificates import certificate

    try:
        info = leanto_edge.load(options.model or leanto_edge.embedded(), adapter=options.adapter).info
    except leanto_edge.ArtifactError as error:
        raise ModelError(str(error), path=str(error.path)) from None
    now = float(int(time.time()))
    made = certificate.from_points(
        found,
        task=options.task,
        build=info.build_hash,
        cloud_model=options.cloud_model,
        score=options.score or score_name(info.confidence.get(options.task)),
        issued_at=now,
        expires_at=now + 86400 * options.days,
    )
    write_new(options.out, certificate.sign(made, key) + "\n")
    return base64.b64encode(key.public_key().public_bytes_raw()).decode()
