"""The certified threshold of a request: the policy's certificates, read once, asked for this edge build, score, task and cloud model.

Cryptography is imported only where a policy names certificates.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from leanto.policy import Policy
from leanto.policy.schema import Quality

if TYPE_CHECKING:
    from leanto.certificate import Certificates
    from leanto_edge import ModelInfo


class Certified:
    """Of one client; a policy that names other certificates has them read anew."""

    def __init__(self) -> None:
        self._held: tuple[Quality, Certificates] | None = None

    def threshold(self, policy: Policy, info: ModelInfo, task: str, cloud_model: str | None, now: float) -> tuple[float | None, str]:
        """The strictest that holds at `now` (seconds since the epoch), or None and why none does. Never raises."""
        quality = policy.quality
        if not quality.certificates:
            return None, "the policy names none"
        from leanto.certificate import Certificates, score_name

        if self._held is None or self._held[0] != quality:
            folder = Path(policy.origin).parent
            self._held = (quality, Certificates([folder / file for file in quality.certificates], quality.certificate_key))
        cloud = cloud_model or (policy.cloud.model if policy.cloud else None)
        return self._held[1].threshold(info.build_hash, cloud, task, now, score=score_name(info.confidence.get(task)))
