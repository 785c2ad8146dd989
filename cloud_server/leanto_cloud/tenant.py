"""Who a call comes from, for admission alone: the name in the client's certificate. Held in memory while the call lasts, told to nobody.

A node that has another way to tell its tenants apart gives its own function of the context.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from grpc import aio

Context = aio.ServicerContext[Any, Any]
Tenant = Callable[[Context], str]

EVERYBODY = ""  # whoever shows no certificate


def certificate_name(context: Context) -> str:
    """The first name that mutual TLS has verified (subject alternative names before the common name), or EVERYBODY."""
    identities = context.peer_identities()
    return next(iter(identities), b"").decode(errors="replace") if identities else EVERYBODY
