"""`leanto certify`: labelled pairs become a signed threshold, or the reason why they cannot. The work is certificates/selective_risk.py."""

from __future__ import annotations

import argparse
import base64
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from leanto.certificates.agreement import EVENTS
from leanto.certificates.certified import score_name
from leanto.cli.output import check_new, write_new
from leanto.errors import CertificateError, ModelError
from leanto.jsonl import read_rows

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from leanto.certificates.selective_risk import Certified, Feasibility

FORM = (
    'one JSON object a line: {"score": 0 to 1, "disagreement": true if the cloud says something else}, or instead {"worse": true if its '
    'answer is better} or {"wrong": …}, and perhaps {"task": …, "score_name": …}'
)
STRICTER = (1.0, 0.5, 0.25)  # of alpha: what an alarm of the audit can fall back to


@dataclass(frozen=True, slots=True)
class Pairs:
    """Answers of one task: their scores, and for each whether it is a case of `event` (see `agreement.EVENTS`). `score_name` says what
    the scores are, where that is known."""

    scores: list[float]
    cases: list[bool]
    event: str
    score_name: str | None


def add(commands: Any) -> None:
    """Add the command."""
    about = (
        "Find the threshold above which at most alpha of the local answers say something else than the cloud's (or are worse, or wrong, as "
        "the labels have it), with confidence 1 − delta. Audits can watch disagreement only."
    )
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
    pairs = read_pairs(options.pairs, options.task)
    try:
        report = feasibility(pairs.scores, pairs.cases, options.alpha, options.delta)
        found = [one for factor in STRICTER if (one := certify(pairs.scores, pairs.cases, factor * options.alpha, options.delta))]
    except ValueError as error:
        raise CertificateError(f"{options.pairs}: {error}") from None
    certified = [one for one in found if one.alpha == options.alpha]
    written = {}
    if key and certified:
        written = {"file": options.out, "public_key": _write(options, pairs, found, key)}
    if options.json:
        certified_json = [asdict(one) for one in found] if certified else []
        print(json.dumps({"event": pairs.event, "feasibility": asdict(report), "certified": certified_json, **written}))
    else:
        print(describe(pairs.event, report, found if certified else [], written))
    return 0 if certified else 1


def read_pairs(path: str, task: str) -> Pairs:
    """Those of `task`. Raises CertificateError with the line that is none, and where not all of them speak of the same."""
    pairs = [pair for pair in read_rows(path, _pair, form=FORM, error=CertificateError) if pair[2] in (task, None)]
    if not pairs:
        raise CertificateError(f"{path}: no pairs for the task {task!r}; expected {FORM}")
    scores, cases, _, events, names = map(list, zip(*pairs, strict=True))
    for what, found in (("labels", set(events)), ("scores", set(names))):
        if len(found) > 1:
            raise CertificateError(f"{path}: holds {what} of several kinds ({', '.join(sorted(map(str, found)))}); certify them one by one")
    return Pairs(scores, cases, events[0], names[0])


def describe(event: str, report: Feasibility, found: list[Certified], written: dict[str, str]) -> str:
    """What can be hoped for first, then what was certified."""
    low, high = report.risk_bounds
    needed = "more than a million" if report.labels_needed is None else f"about {report.labels_needed:,}"
    rows = [
        ("pairs", f"{report.n:,}, of which {report.risk:.1%} {EVENTS[event]} ({low:.1%} to {high:.1%})"),
        ("oracle", f"even one that knows which are could keep at most {report.oracle_share:.1%} local at {report.alpha:.1%}"),
        ("this score", f"would keep {report.score_share:.1%} if these pairs were all there is"),
        ("labels", f"{needed} to certify 85 % of that" if report.score_share else "no number certifies it with this score"),
    ]
    for one in found:
        promise = f"score ≥ {one.threshold:.4f} keeps {one.kept_share:.1%} local, at most {one.alpha:.2%} of which {EVENTS[event]}"
        rows.append(("certified", f"{promise} ({one.worse} of {one.kept:,} here, bound {one.bound:.2%}), confidence {1 - one.delta:.0%}"))
    if not found:
        rows.append(("certified", "nothing: these answers belong to the cloud, or more labels are needed"))
    if written:
        rows += [("written", written["file"]), ("pin", written["public_key"])]
    return "\n".join(f"{label:<12} {value}" for label, value in rows)


def _pair(row: dict[str, Any]) -> tuple[float, bool, Any, str, str | None]:
    """Score, label, task, event and the score's name."""
    score, name = row["score"], row.get("score_name")
    (event,) = EVENTS.keys() & row.keys()
    if not isinstance(row[event], bool) or isinstance(score, bool) or not 0 <= score <= 1 or not isinstance(name, str | None):
        raise TypeError
    return float(score), row[event], row.get("task"), event, name


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


def _write(options: argparse.Namespace, pairs: Pairs, found: list[Certified], key: Ed25519PrivateKey) -> str:
    """Write the signed certificate and return the public key to pin. Raises CertificateError where the scores are not the model's."""
    import leanto_edge
    from leanto.certificates import certificate

    try:
        info = leanto_edge.load(options.model or leanto_edge.embedded(), adapter=options.adapter).info
    except leanto_edge.ArtifactError as error:
        raise ModelError(str(error), path=str(error.path)) from None
    score = options.score or score_name(info.confidence.get(options.task))
    if pairs.score_name not in (score, None):
        raise CertificateError(
            f"{options.pairs}: its scores are {pairs.score_name!r:.42}, but {info.name} gives {score!r:.42}, of which they prove nothing: "
            "let `leanto calibrate --certify` --write its confidence into the --model that is named here"
        )
    now = float(int(time.time()))
    made = certificate.from_points(
        found,
        task=options.task,
        build=info.build_hash,
        cloud_model=options.cloud_model,
        score=score,
        event=pairs.event,
        issued_at=now,
        expires_at=now + 86400 * options.days,
    )
    write_new(options.out, certificate.sign(made, key) + "\n")
    return base64.b64encode(key.public_key().public_bytes_raw()).decode()
