"""The development evidence type: an Ed25519 root signs the report data. It proves possession of a key, nothing about the machine.

A package of its own: its trust root and its policy type are shared with no hardware type, and nothing turns one into the other.
"""

from __future__ import annotations

from leanto_wire.development.policy import DevelopmentPolicy
from leanto_wire.development.report import appraise, sign_report

__all__ = ["DevelopmentPolicy", "appraise", "sign_report"]
