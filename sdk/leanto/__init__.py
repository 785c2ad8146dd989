"""leanto: a lean language model inside your process that leans on a larger one, privately, only when the answer needs it.

from leanto import Client
with Client() as client:                       # embedded model, default policy, no key, no network
    reply = client.ask("wake me at half past six on weekdays")
reply.text, reply.route, reply.confidence, reply.decision.explain()
"""

from __future__ import annotations

from leanto.chat import AsyncChat, Chat, Turn
from leanto.client import AsyncClient, Client
from leanto.clock import Clock
from leanto.decision import Check, Decision
from leanto.errors import (
    BudgetSpent,
    CertificateError,
    CloudUnavailable,
    DeadlineExceeded,
    EngineFault,
    EvidenceRefused,
    Fault,
    LeantoError,
    MissingExtra,
    ModelError,
    NoRoute,
    OutputError,
    PolicyError,
    PromptRefused,
    ProtocolFault,
    SignalError,
    TargetError,
    UserError,
)
from leanto.events import Event, FinalEvent, HandoffEvent, Reply, RestartEvent, TextEvent
from leanto.policy import Policy, default_policy, load_policy, parse_policy
from leanto.remote import RemoteTarget, Tls
from leanto.signals import Snapshot, simulate

__version__ = "0.1.0"

__all__ = [
    "AsyncChat",
    "AsyncClient",
    "BudgetSpent",
    "CertificateError",
    "Chat",
    "Check",
    "Client",
    "Clock",
    "CloudUnavailable",
    "DeadlineExceeded",
    "Decision",
    "EngineFault",
    "Event",
    "EvidenceRefused",
    "Fault",
    "FinalEvent",
    "HandoffEvent",
    "LeantoError",
    "MissingExtra",
    "ModelError",
    "NoRoute",
    "OutputError",
    "Policy",
    "PolicyError",
    "PromptRefused",
    "ProtocolFault",
    "RemoteTarget",
    "Reply",
    "RestartEvent",
    "SignalError",
    "Snapshot",
    "TargetError",
    "TextEvent",
    "Tls",
    "Turn",
    "UserError",
    "default_policy",
    "load_policy",
    "parse_policy",
    "simulate",
]
