"""The one error tree of the SDK. Lower packages raise their own errors; the SDK wraps them at its boundary.

    LeantoError
    ├── UserError                 the caller can put it right            exit code 2
    │   ├── PromptRefused         empty, too long, or not text
    │   ├── PolicyError           .file .line     a policy that does not say what it seems to say
    │   ├── SignalError           a --simulate string that cannot be read
    │   ├── ModelError            .path           a missing, damaged or foreign model artifact
    │   ├── CertificateError                      a certificate that is not signed as it should be, or labels none can come from
    │   ├── TargetError           a cloud address or trust root that cannot be used
    │   ├── OutputError           .path           a file that cannot be written
    │   └── MissingExtra          .extra          a feature whose optional packages are not installed
    └── Fault                     something failed that should have worked  exit code 1
        ├── EngineFault           the local model failed while generating
        ├── NoRoute               the policy leaves no target for this request
        │   └── BudgetSpent       .spent          a budget of the cloud was used up before the call, and nothing else may answer
        ├── CloudUnavailable      .retryable      unreachable, overloaded or gone in mid-answer
        ├── EvidenceRefused       .claim          the node cannot prove what the policy asks
        ├── DeadlineExceeded      the request ran out of time
        └── ProtocolFault         the node answered something the protocol does not allow

Every message is one line: what happened, where, and what to do. Errors raised by a request carry its `.decision`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from leanto.decision import Decision, Spent


class LeantoError(Exception):
    """Root of the tree. `decision` is the record of the request that failed, once there is one."""

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))
        self.decision: Decision | None = None


class UserError(LeantoError):
    """The caller can put it right."""

    exit_code: ClassVar[int] = 2


class PromptRefused(UserError):
    """The prompt is empty, too long for every allowed target, or not text."""


class PolicyError(UserError):
    """A policy file that is malformed; `file` and `line` point at the place where known."""

    def __init__(self, message: str, *, file: str | None = None, line: int | None = None) -> None:
        place = f"{file or 'policy'}:{line}" if line is not None else (file or "policy")
        super().__init__(f"{place}: {message}")
        self.file = file
        self.line = line


class SignalError(UserError):
    """A simulated signal with an unknown name or a value out of range."""


class ModelError(UserError):
    """A model artifact that is missing, damaged, of another version or of an unsupported architecture."""

    def __init__(self, message: str, *, path: str | None = None) -> None:
        super().__init__(message)
        self.path = path


class CertificateError(UserError):
    """A certificate that cannot be read or was not signed by the pinned key, or labelled pairs that none can be made from."""


class TargetError(UserError):
    """A cloud target whose address or trust root cannot be used."""


class OutputError(UserError):
    """A file (decision log, artifact) that cannot be written."""

    def __init__(self, message: str, *, path: str | None = None) -> None:
        super().__init__(message)
        self.path = path


class MissingExtra(UserError):
    """A feature that needs optional packages; `extra` names what to install."""

    def __init__(self, feature: str, extra: str) -> None:
        super().__init__(f"{feature} needs optional packages: pip install 'leanto[{extra}]'")
        self.extra = extra


class Fault(LeantoError):
    """Something failed that should have worked; `retryable` says whether the same request may succeed later."""

    def __init__(self, message: str, *, retryable: bool = False) -> None:
        super().__init__(message)
        self.retryable = retryable


class EngineFault(Fault):
    """The local model failed while generating."""


class NoRoute(Fault):
    """The policy, with what the device and the link allow, leaves no target for this request."""


class BudgetSpent(NoRoute):
    """A budget of the cloud was used up between the decision and the call, and nothing else may answer. `spent` is what was found."""

    def __init__(self, spent: Spent) -> None:
        super().__init__("a budget of the cloud is used up; `leanto explain` shows which")
        self.spent = spent


class CloudUnavailable(Fault):
    """The private compute node is unreachable, overloaded, or went away in mid-answer."""


class EvidenceRefused(Fault):
    """The node's evidence does not prove what the client asks for; nothing was sent. `claim` names what failed."""

    def __init__(self, message: str, *, claim: str | None = None) -> None:
        super().__init__(message)
        self.claim = claim


class DeadlineExceeded(Fault):
    """The request ran out of its deadline."""

    def __init__(self, message: str) -> None:
        super().__init__(message, retryable=True)


class ProtocolFault(Fault):
    """The node sent something that the protocol does not allow."""
