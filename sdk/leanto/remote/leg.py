"""What the cascade needs of the cloud, whatever stands behind it: `remote` is the real one. No gRPC here."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from leanto.remote.call import RemoteChunk, RemoteRequest


class CloudCall(Protocol):
    """One call in flight; closing it cancels it on the node too."""

    @property
    def bytes_sent(self) -> int:
        """Bytes put on the wire for this call so far."""
        ...

    @property
    def bytes_received(self) -> int:
        """Bytes taken from it."""
        ...

    def __aiter__(self) -> AsyncIterator[RemoteChunk]: ...
    async def __anext__(self) -> RemoteChunk: ...
    async def aclose(self) -> None:
        """Cancel, or free what is left of a finished call."""
        ...


class CloudLeg(Protocol):
    """What the cascade needs of the cloud; leanto.remote.RemoteLeg is one."""

    @property
    def model_id(self) -> str | None:
        """Which model answered last, as the node says."""
        ...

    @property
    def evidence_id(self) -> str | None:
        """Type and digest of the evidence that the node was believed for."""
        ...

    def generate(self, request: RemoteRequest) -> CloudCall:
        """Start a call; everything that can fail fails with the first chunk."""
        ...

    async def close(self) -> None:
        """Close the channel."""
        ...
