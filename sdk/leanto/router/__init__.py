"""A learned prompt router: P(the local answer is not worse than the cloud's) from the prompt alone, learnt from logged outcomes."""

from __future__ import annotations

from leanto.router.model import Router
from leanto.router.training import Outcome, read_outcomes, train

__all__ = ["Outcome", "Router", "read_outcomes", "train"]
