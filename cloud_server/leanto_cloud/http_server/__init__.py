"""HTTP for relay, gateway, issuer, log and witness: one server with limits and clocks, that keeps no log of who asked.

It knows nothing of what it serves. Importing this does not import the server itself (`serving.py`, extra `cloud` or `relay`).
"""

from __future__ import annotations

from leanto_cloud.http_server.answers import MAX_BODY_BYTES, Answer, Answering, Request, Respond

__all__ = ["MAX_BODY_BYTES", "Answer", "Answering", "Request", "Respond"]
