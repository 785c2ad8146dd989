"""The promise that the shipped pair comes with: `python certify.py MODELS --data DATA`, run by ship.py as its last step.

pocket's confidence, that a call is right, is fitted on a third of the validation commands; the others certify the threshold above which
at most 5 % of its calls say something else than pocket-large's, with confidence 95 %. That is what an audit can see, and no call is worse
than pocket-large's that says the same. The key that signs is made here and not kept: the public half goes into the shipped policy.
"""

from __future__ import annotations

import argparse
import base64
import json
import random
import time
from pathlib import Path

import corpus
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from evaluate import answer, is_exact

import leanto_edge
from leanto.certificates.agreement import DISAGREEMENT, same
from leanto.certificates.certificate import from_points, sign
from leanto.certificates.certified import score_name
from leanto.certificates.selective_risk import certify
from leanto.confidence import fit, predict_in_stream
from leanto_edge.artifact import annotate_artifact

ALPHAS, DELTA = (0.05, 0.025, 0.0125), 0.05
PRECISION = 0.95  # of the answers that the uncertified threshold keeps
DAYS = 730


def main() -> None:
    """Write pocket's confidence and certificate, and print the key to pin."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", type=Path, help="the folder that holds pocket and pocket-large")
    parser.add_argument("--data", type=Path, required=True)
    args = parser.parse_args()
    print(json.dumps({"certificate_key": promise(args.models, args.data)}))


def promise(models: Path, data: Path) -> str:
    """Annotate MODELS/pocket, and return the public key (base64) of its certificate."""
    edge, cloud = leanto_edge.load(models / "pocket"), leanto_edge.load(models / "pocket-large")
    rows = corpus.rows(data, "valid")
    random.Random(0).shuffle(rows)
    learnt = len(rows) // 3
    calls = [answer(edge, row) for row in rows]
    confidence = fit(
        [(call.tokens, is_exact(row, call)) for row, call in zip(rows[:learnt], calls[:learnt], strict=True)], precision=PRECISION
    )
    scores = [predict_in_stream(confidence, call.tokens) for call in calls[learnt:]]
    differ = [not same(call.text, answer(cloud, row).text) for row, call in zip(rows[learnt:], calls[learnt:], strict=True)]
    found = [one for alpha in ALPHAS if (one := certify(scores, differ, alpha, DELTA))]
    now = float(int(time.time()))
    made = from_points(
        found,
        task="call",
        build=edge.info.build_hash,
        cloud_model=f"{cloud.info.name}@{cloud.info.build_hash}",
        score=score_name(confidence),
        event=DISAGREEMENT,
        issued_at=now,
        expires_at=now + 86_400 * DAYS,
    )
    key = Ed25519PrivateKey.generate()
    annotate_artifact(models / "pocket", confidence={"call": confidence}, certificates=[json.loads(sign(made, key))])
    return base64.b64encode(key.public_key().public_bytes_raw()).decode()


if __name__ == "__main__":
    main()
