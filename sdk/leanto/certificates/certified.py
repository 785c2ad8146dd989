"""What is promised of a request's local answers: the policy's certificates, read once, asked for this edge build, score, task and cloud
model, as far as the audits have left them.

Cryptography is imported only where a policy names certificates.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from leanto.decision import Promise
from leanto.ledger import Ledger
from leanto.policy import Policy
from leanto.policy.schema import ARTIFACT, Quality

if TYPE_CHECKING:
    from leanto.certificates.certificate import Certificates
    from leanto_edge import ModelInfo


class Certified:
    """Of one client; a policy that names other certificates has them read anew."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._held: tuple[Quality, Certificates] | None = None

    def promise(self, policy: Policy, info: ModelInfo, task: str, cloud_model: str | None, now: float) -> Promise:
        """What holds at `now` (seconds since the epoch), or none and why. Never raises."""
        quality, cloud = policy.quality, cloud_model or (policy.cloud.model if policy.cloud else None)
        if not quality.certificates:
            return Promise(why_not="the policy names none")
        if cloud is None:
            return Promise(why_not="the cloud's model is not known yet")
        from leanto.certificates.certificate import Certificates

        if self._held is None or self._held[0] != quality:
            folder = Path(policy.origin).parent
            files = [folder / file for file in quality.certificates if file != ARTIFACT]
            carried = info.certificates if ARTIFACT in quality.certificates else ()
            self._held = (quality, Certificates(files, carried, quality.certificate_key))
        score = score_name(info.confidence.get(task))
        return self._held[1].promise(info.build_hash, cloud, task, now, score=score, alarmed=self._ledger.alarmed)


def score_name(model: Mapping[str, Any] | None) -> str:
    """What certificates and records call the confidence that this model (see `confidence.fit`) gives: another fit has another name."""
    if not model:
        return "mean token probability"
    written = json.dumps(model, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return f"confidence {hashlib.sha256(written.encode()).hexdigest()[:32]}"
