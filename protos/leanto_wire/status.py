"""The constant status texts: everything that a node ever says outside a seal. Knows nothing of gRPC but the names of its codes.

A status text is the same for every request that meets it, so it can hold nothing of a prompt, an answer or an exception.
"""

from __future__ import annotations

from enum import Enum


class Refusal(Enum):
    """Why a node refuses a call: the name of a gRPC status code, and the text."""

    MALFORMED = ("INVALID_ARGUMENT", "the message is not one of leanto.v1")
    BAD_NONCE = ("INVALID_ARGUMENT", "a nonce has 32 bytes")
    SUITE = ("INVALID_ARGUMENT", "the suite is not one this node speaks")
    STALE_EVIDENCE = ("FAILED_PRECONDITION", "the evidence is no longer current; get it again")
    NOT_OPENED = ("INVALID_ARGUMENT", "the sealed request does not open")
    REPLAYED = ("ALREADY_EXISTS", "this sealed request was served before")
    TOKEN_MISSING = ("UNAUTHENTICATED", "this node takes a one-time token with every request")
    TOKEN_INVALID = ("UNAUTHENTICATED", "the token is not one that this node takes")
    TOKEN_SPENT = ("UNAUTHENTICATED", "the token was spent before")
    BUSY = ("RESOURCE_EXHAUSTED", "the node is busy; try again later")
    DRAINING = ("UNAVAILABLE", "the node is shutting down; try another")
    TOO_SLOW = ("DEADLINE_EXCEEDED", "the node's own time limit has passed")
    INTERNAL = ("INTERNAL", "the node failed; nothing about the request was kept")

    @property
    def code(self) -> str:
        """The gRPC status code's name."""
        return self.value[0]

    @property
    def text(self) -> str:
        """The status text."""
        return self.value[1]
