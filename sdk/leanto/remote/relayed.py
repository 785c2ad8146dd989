"""The way to a node through a relay: gRPC's calls inside chunked OHTTP over HTTP. To its caller it is a stub of gRPC, with its errors.

The relay learns this machine's address and sizes; the gateway behind it learns neither address nor content. Imported where a target
names a relay.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from typing import TypeVar

import httpx
from google.protobuf.message import DecodeError, Message
from grpc import StatusCode, aio

from leanto.errors import MissingExtra, TargetError
from leanto.remote.target import Relay, RemoteTarget, relay_url
from leanto_wire.errors import ProtocolError, SealError
from leanto_wire.ohttp import REQUEST_TYPE, RESPONSE_TYPE
from leanto_wire.ohttp.bhttp import ResponseReader
from leanto_wire.ohttp.calls import EVIDENCE, GENERATE, FrameReader, call, status_of
from leanto_wire.v1.private_compute_pb2 import EvidenceRequest, EvidenceResponse, SealedChunk, SealedRequest

try:
    from leanto_wire.ohttp.chunked import ChunkReader, RequestSealer, chunks_of
    from leanto_wire.ohttp.key_config import KeyConfig
except ModuleNotFoundError:
    raise MissingExtra("a relay", "relay") from None

M = TypeVar("M", bound=Message)

CHUNKS_AHEAD = 16
_CODES = {code.value[0]: code for code in StatusCode}
_HTTP = {429: StatusCode.RESOURCE_EXHAUSTED, 413: StatusCode.RESOURCE_EXHAUSTED} | dict.fromkeys(
    (408, 500, 502, 503, 504), StatusCode.UNAVAILABLE
)


class RelayedNode:
    """What a gRPC channel and its stub are to a session. Raises TargetError."""

    def __init__(self, target: RemoteTarget, relay: Relay) -> None:
        self._url = httpx.URL(relay_url(relay))
        self._authority = target.address
        self._key = _key(relay)
        roots = target.tls.root_certificates if target.tls else None
        try:
            verify = ssl.create_default_context(cafile=roots)
        except OSError as error:
            raise TargetError(f"cannot read the root certificates {roots}: {error.strerror}") from None
        self._calls: set[RelayedCall] = set()
        self._transport = httpx.AsyncHTTPTransport(verify=verify, trust_env=False)

    async def GetEvidence(self, request: EvidenceRequest, *, timeout: float) -> EvidenceResponse:
        """As the stub of gRPC has it."""
        found = None
        async with _timed(timeout), aclosing(self._messages(EVIDENCE, request.SerializeToString())) as messages:
            async for message in messages:
                if found is not None:
                    raise failure(StatusCode.DATA_LOSS)
                found = _parsed(EvidenceResponse, message)
        if found is None:
            raise failure(StatusCode.DATA_LOSS)
        return found

    def Generate(self, request: SealedRequest, *, timeout: float) -> RelayedCall:
        """As the stub of gRPC has it."""
        made = RelayedCall(self._messages(GENERATE, request.SerializeToString()), timeout, self._calls.discard)
        self._calls.add(made)
        return made

    async def close(self) -> None:
        """Close the connections to the relay; calls under way end."""
        await asyncio.gather(*(call.end() for call in list(self._calls)))
        await self._transport.aclose()

    async def _messages(self, path: bytes, message: bytes) -> AsyncGenerator[bytes]:
        """The messages of the answer. Raises AioRpcError, for a status other than OK too."""
        try:
            sealer = RequestSealer(self._key)
            parts = chunks_of(call(path, self._authority, message).encode())
            body = b"".join(sealer.seal(part, final=i + 1 == len(parts)) for i, part in enumerate(parts))
            answer = _Answer(sealer.answer())
            async with aclosing(self._posted(body)) as received:
                async for data in received:
                    for found in answer.feed(data):
                        yield found
            for found in answer.close():
                yield found
            if answer.code is not StatusCode.OK:
                raise failure(answer.code)
        except aio.AioRpcError:
            raise
        except (SealError, ProtocolError):
            raise failure(StatusCode.DATA_LOSS) from None
        except Exception:  # whatever a transport raises: TLS that breaks in mid-stream is not among httpx's own errors
            raise failure(StatusCode.UNAVAILABLE) from None

    async def _posted(self, body: bytes) -> AsyncGenerator[bytes]:
        """What the relay answers. Nothing of httpx's own goes along: no user agent, cookies, redirects or proxies."""
        headers = {"Host": self._url.netloc.decode(), "Content-Type": REQUEST_TYPE, "Content-Length": str(len(body))}
        timeouts = {"connect": 5.0, "read": None, "write": 30.0, "pool": None}  # the caller's timeout ends it
        request = httpx.Request("POST", self._url, headers=headers, content=body, extensions={"timeout": timeouts})
        response = await self._transport.handle_async_request(request)
        try:
            if response.status_code != 200:
                raise failure(_HTTP.get(response.status_code, StatusCode.UNIMPLEMENTED))
            if response.headers.get("content-type") != RESPONSE_TYPE or "content-encoding" in response.headers:
                raise failure(StatusCode.UNIMPLEMENTED)
            stream = response.stream
            assert isinstance(stream, httpx.AsyncByteStream)
            async for data in stream:
                yield data
        finally:
            await response.aclose()


class RelayedCall:
    """One answer as it comes. A task reads ahead a little, so that `cancel` can be called from anywhere, as gRPC's can."""

    def __init__(self, messages: AsyncGenerator[bytes], timeout_s: float, ended: Callable[[RelayedCall], object]) -> None:
        self._queue: asyncio.Queue[SealedChunk | Exception | None] = asyncio.Queue()
        self._room = asyncio.Semaphore(CHUNKS_AHEAD)
        self._task = asyncio.create_task(self._read(messages, timeout_s))
        self._task.add_done_callback(lambda _: ended(self))

    async def __aiter__(self) -> AsyncIterator[SealedChunk]:
        while (item := await self._queue.get()) is not None:
            if isinstance(item, Exception):
                raise item
            self._room.release()
            yield item

    def cancel(self) -> None:
        """Stop reading; the connection is closed, and the node stops."""
        self._task.cancel()

    async def end(self) -> None:
        """Cancel, and wait until the connection is closed."""
        self.cancel()
        await asyncio.wait([self._task])

    async def _read(self, messages: AsyncGenerator[bytes], timeout_s: float) -> None:
        """Whatever happens, the queue gets an end: somebody may be waiting for it."""
        end: Exception | None = failure(StatusCode.CANCELLED)
        try:
            async with _timed(timeout_s), aclosing(messages):
                async for message in messages:
                    await self._room.acquire()
                    self._queue.put_nowait(_parsed(SealedChunk, message))
            end = None
        except aio.AioRpcError as error:
            end = error
        finally:
            self._queue.put_nowait(end)


class _Answer:
    """Opens OHTTP, reads binary HTTP, takes gRPC's messages out of it."""

    def __init__(self, reader: ChunkReader) -> None:
        self._reader = reader
        self._response = ResponseReader()
        self._frames = FrameReader()

    def feed(self, data: bytes) -> list[bytes]:
        """The messages that are whole now. Raises SealError, ProtocolError."""
        return self._frames.feed(self._response.feed(self._reader.feed(data)))

    def close(self) -> list[bytes]:
        """The last messages. Raises AioRpcError if the stream was cut off; SealError, ProtocolError."""
        if not self._reader.in_final:
            raise failure(StatusCode.UNAVAILABLE)
        messages = self._frames.feed(self._response.feed(self._reader.close()))
        if self._response.trailers is None or self._response.status != 200 or not self._frames.empty:
            raise ProtocolError("the answer ends too early")
        return messages

    @property
    def code(self) -> StatusCode:
        """How the call ended."""
        return _CODES.get(status_of(self._response.trailers or ()), StatusCode.UNKNOWN)


def failure(code: StatusCode) -> aio.AioRpcError:
    """What a stub of gRPC raises."""
    return aio.AioRpcError(code, aio.Metadata(), aio.Metadata())


@asynccontextmanager
async def _timed(timeout_s: float) -> AsyncIterator[None]:
    """A timeout that ends as gRPC's does."""
    try:
        async with asyncio.timeout(timeout_s):
            yield
    except TimeoutError:
        raise failure(StatusCode.DEADLINE_EXCEEDED) from None


def _parsed(kind: type[M], message: bytes) -> M:
    try:
        return kind.FromString(message)
    except DecodeError:
        raise failure(StatusCode.DATA_LOSS) from None


def _key(relay: Relay) -> KeyConfig:
    try:
        return KeyConfig.parse(base64.b64decode(relay.gateway_key, validate=True))
    except (binascii.Error, ValueError, ProtocolError):
        raise TargetError(f"{relay.url}: the gateway's key is not one; `leanto-cloud gateway` prints it") from None
