"""The fallback policy: what a TOML file may say (schema, reader), what follows from it (decide), and how that reads (explain)."""

from __future__ import annotations

from leanto.decision import Facts, Spent
from leanto.policy.decide import (
    after_fault,
    certified_score,
    decide,
    foresee,
    judge_answer,
    judge_breakdown,
    judge_certificate,
    judge_low,
    judge_pace,
    judge_probe,
    judge_stream,
    judge_structure,
    own_or,
    stay,
    without_edge,
)
from leanto.policy.reader import default_policy, parse_policy
from leanto.policy.schema import Policy
from leanto.policy.source import PolicySource, load_policy
from leanto.policy.verdict import Verdict

__all__ = [
    "Facts",
    "Policy",
    "PolicySource",
    "Spent",
    "Verdict",
    "after_fault",
    "certified_score",
    "decide",
    "default_policy",
    "foresee",
    "judge_answer",
    "judge_breakdown",
    "judge_certificate",
    "judge_low",
    "judge_pace",
    "judge_probe",
    "judge_stream",
    "judge_structure",
    "load_policy",
    "own_or",
    "parse_policy",
    "stay",
    "without_edge",
]
