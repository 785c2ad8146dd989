"""Opens the chunks of an answer and holds the node to the protocol: order, end, cadence, token count, model."""

from __future__ import annotations

from google.protobuf.message import DecodeError

from leanto.errors import CloudUnavailable, PromptRefused, ProtocolFault
from leanto.remote.call import RemoteChunk
from leanto_wire.records import RecordReader
from leanto_wire.seal import Opener
from leanto_wire.v1.inference_pb2 import Cadence, GenerateError, GenerateResponse, GenerateStreamChunk
from leanto_wire.v1.private_compute_pb2 import SealedChunk

MAX_TOKEN_CHARS = 1024  # no vocabulary has a token as long


class Answer:
    """Opens an answer's chunks and holds the node to the protocol. With a cadence, each is one frame of a stream of records."""

    def __init__(self, opener: Opener, cadence: Cadence | None, model_id: str, max_tokens: int, address: str) -> None:
        self._opener = opener
        self._cadence = cadence
        self._records = RecordReader()
        self._model_id = model_id
        self._tokens_left = max_tokens
        self._chars_left = 0
        self._address = address
        self._last: RemoteChunk | Exception | None = None

    def take(self, sealed: SealedChunk) -> list[RemoteChunk]:
        """The parts of the answer in `sealed`, none in a dummy; how it ends is kept for `finish`, so that no end is told early."""
        message = self._opener.open(sealed.ciphertext, final=sealed.final)
        messages = [message] if self._cadence is None else self._records.feed(message)
        parts = [part for message in messages for part in self._read(self._parse(message))]
        ended, paced = self._last is not None, self._cadence is not None
        if sealed.final is not ended and not (paced and ended):  # paced: dummies may follow the end
            raise self._broken("the answer ends where it should not")
        if self._cadence is not None and sealed.final:
            self._records.close()
            if self._opener.opened % self._cadence.frames:
                raise self._broken("the answer leaves its cadence")
        return parts

    def _parse(self, message: bytes) -> GenerateResponse:
        try:
            return GenerateResponse.FromString(message)
        except DecodeError:
            raise self._broken("a chunk holds no response") from None

    def _read(self, response: GenerateResponse) -> list[RemoteChunk]:
        """The parts of the answer in `response`; the end is kept."""
        if self._last is not None:
            raise self._broken("the answer goes on after its end")
        match response.WhichOneof("response"):
            case "chunk":
                return [self._chunk(response.chunk)]
            case "chunks":
                return [self._chunk(chunk) for chunk in response.chunks.chunks]
            case "complete":
                self._last = self._complete(response)
            case "error":
                self._last = self._refused(response.error)
            case _:
                raise self._broken("a chunk holds no response")
        return []

    def finish(self) -> RemoteChunk:
        """The last chunk. Raises SealError if the stream was cut before it."""
        self._opener.close()
        if self._last is None:
            raise self._broken("the answer has no end")
        if isinstance(self._last, Exception):
            raise self._last
        return self._last

    def _chunk(self, chunk: GenerateStreamChunk) -> RemoteChunk:
        self._tokens_left -= len(chunk.token_ids)
        self._chars_left += MAX_TOKEN_CHARS * len(chunk.token_ids) - len(chunk.text)  # text may come later than its tokens, not earlier
        logprobs = tuple(chunk.output_logprobs.token_logprobs)
        if self._tokens_left < 0 or len(logprobs) != len(chunk.token_ids):
            raise self._broken("more tokens than were asked for, or tokens without their logprobs")
        if self._chars_left < 0:
            raise self._broken("more text than its tokens can stand for")
        return RemoteChunk(chunk.text, tuple(chunk.token_ids), logprobs)

    def _complete(self, response: GenerateResponse) -> RemoteChunk:
        complete = response.complete
        if complete.model_id != self._model_id:
            raise self._broken("another model answered than the evidence names")
        if complete.finish_reason not in ("stop", "length"):
            raise self._broken("an unknown finish reason")
        return RemoteChunk("", finish_reason=complete.finish_reason)

    def _refused(self, error: GenerateError) -> Exception:
        said = "".join(char if char.isprintable() else " " for char in error.message)[:300]
        if error.code == GenerateError.CODE_INVALID_ARGUMENT:
            return PromptRefused(f"{self._address} refused the request: {said}")
        return CloudUnavailable(f"{self._address} cannot do this: {said}", retryable=False)

    def _broken(self, what: str) -> ProtocolFault:
        return ProtocolFault(f"{self._address} broke the protocol: {what}")
