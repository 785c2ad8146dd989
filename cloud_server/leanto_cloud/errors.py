"""What can go wrong in a node. Messages that leave the node outside a seal come from leanto_wire.status, never from here.

CloudError
├── ConfigurationError          the operator can put it right: an option, a model, an address     exit code 2
├── AttestationError            the hardware gives no report, or none that a client could check      exit code 1
├── RequestError                sealed, told to the client alone
│   ├── InvalidRequest          a prompt or parameter that cannot be used as it stands
│   └── UnsupportedRequest      something this model or engine does not do
└── Refused       .refusal      told outside the seal, as a constant status text
"""

from __future__ import annotations

from leanto_wire.status import Refusal


class CloudError(Exception):
    """Anything that leanto_cloud raises on purpose."""


class ConfigurationError(CloudError):
    """The node cannot start as it was asked to."""


class AttestationError(CloudError):
    """The hardware gives no report, or none that a client could check."""


class RequestError(CloudError):
    """The request cannot be answered; only the client may read why."""


class InvalidRequest(RequestError):
    """A prompt or a parameter that cannot be used as it stands."""


class UnsupportedRequest(RequestError):
    """A task or an option that this engine or model does not do."""


class Refused(CloudError):
    """The call ends with a constant status text."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.text)
        self.refusal = refusal
