"""What the policy's prompt router says of a request before a token is spent; None where there is no router, or it cannot be read.

NumPy is imported only where a policy names a router.
"""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from leanto.errors import ModelError
from leanto.policy import Policy
from leanto.policy.source import Stamp, stamp

if TYPE_CHECKING:
    from leanto.router import Router

_log = logging.getLogger("leanto")


class PromptScore:
    """Of one client; a policy that names another router, or a file that changed, has it read anew."""

    def __init__(self) -> None:
        self._held: tuple[Path, Stamp, Router | None] | None = None
        self.name: str | None = None  # of the router that scored last: see `router_name`

    def of(self, policy: Policy, prompt: str) -> float | None:
        """P(the local answer is not worse than the cloud's), or None. Never raises: a router that fails leaves the score unknown."""
        if policy.quality.router is None:
            self.name = None
            return None
        path = Path(policy.origin).parent / policy.quality.router
        if self._held is None or self._held[:2] != (path, stamp(path)):
            self._held = (path, stamp(path), _load(path))
            self.name = router_name(path) if self._held[2] else None
        router = self._held[2]
        return None if router is None else router.score(prompt)


def router_name(path: Path) -> str | None:
    """How records name a router: by the hash of its file; None where it cannot be read."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()[:32]
    except OSError:
        return None


def _load(path: Path) -> Router | None:
    from leanto.router import Router

    try:
        return Router.load(path)
    except ModelError as error:
        _log.warning("no prompt is scored: %s", error)
        return None
