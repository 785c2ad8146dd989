"""What is promised of a request's local answers: the policy's certificates, read again when their files change, asked for this edge
build, score, task and cloud model, as far as the audits have left them.

Cryptography is imported only where a policy names certificates.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from leanto.decision import SAMPLED, Promise
from leanto.ledger import Ledger
from leanto.policy import Policy
from leanto.policy.schema import ARTIFACT, Quality
from leanto.policy.source import Stamp, stamp

if TYPE_CHECKING:
    from leanto.certificates.certificate import Certificates
    from leanto_edge import ModelInfo


class Certified:
    """Of one client; other certificates in the policy, or in its files, are read anew."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._held: tuple[Quality, list[Stamp], Certificates] | None = None

    def promise(
        self, policy: Policy, info: ModelInfo, task: str, cloud_model: str | None, now: float, *, temperature: float = 0.0
    ) -> Promise:
        """What holds at `now` (seconds since the epoch), or none and why. Never raises."""
        quality, cloud = policy.quality, cloud_model or (policy.cloud.model if policy.cloud else None)
        files = [Path(policy.origin).parent / file for file in quality.certificates if file != ARTIFACT]
        carried = info.certificates if ARTIFACT in quality.certificates else ()
        named = bool(files or carried)
        if temperature > 0:
            return Promise(why_not=SAMPLED, named=named)
        if not named:
            return Promise(why_not="there is none" if quality.certificates else "the policy names none")
        if cloud is None:
            return Promise(why_not="the cloud's model is not known yet", named=True)
        stamps = [stamp(file) for file in files]
        if self._held is None or self._held[:2] != (quality, stamps):
            from leanto.certificates.certificate import Certificates

            self._held = (quality, stamps, Certificates(files, carried, quality.certificate_key))
        score = score_name(info.confidence.get(task))
        return self._held[2].promise(info.build_hash, cloud, task, now, score=score, alarmed=self._ledger.alarmed)


def score_name(model: Mapping[str, Any] | None) -> str:
    """What certificates and records call the confidence that this model (see `confidence.fit`) gives: another fit has another name."""
    if not model:
        return "mean token probability"
    written = json.dumps(model, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return f"confidence {hashlib.sha256(written.encode()).hexdigest()[:32]}"
