"""What can go wrong on the wire. Each message is one line, and none holds a byte of prompt or answer.

WireError
├── SealError                a sealed message that does not open, or that is out of place in its stream
├── EvidenceError  .claim    evidence that does not prove what the policy asks
├── TokenError               a one-time token, or a step of its making, that does not hold
├── LogError                 a release log, or a proof from it, that does not hold
└── ProtocolError            sound bytes that say something the protocol does not allow
"""

from __future__ import annotations


class WireError(Exception):
    """Anything that leanto_wire raises on purpose."""


class SealError(WireError):
    """A sealed message was altered, cut, reordered, repeated, or sealed to another key or evidence."""


class EvidenceError(WireError):
    """The evidence is refused; `claim` names the claim that failed."""

    def __init__(self, claim: str, message: str) -> None:
        super().__init__(f"evidence refused: {message}")
        self.claim = claim


class TokenError(WireError):
    """A one-time token, or a step of its making, that does not hold."""


class LogError(WireError):
    """A release log, a checkpoint or a proof that does not hold, or is none."""


class ProtocolError(WireError):
    """A message that parses but that the protocol does not allow."""
