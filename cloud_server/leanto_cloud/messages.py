"""Between the inner messages of leanto.v1 and the engine's values. Knows nothing of seals or gRPC."""

from __future__ import annotations

from leanto_cloud.engines import base
from leanto_cloud.engines.base import Capabilities, EngineRequest, EngineToken, FinishReason
from leanto_cloud.errors import InvalidRequest, RequestError, UnsupportedRequest
from leanto_wire.v1.inference_pb2 import (
    TASK_CALL,
    TASK_TEXT,
    GenerateComplete,
    GenerateError,
    GenerateRequest,
    GenerateResponse,
    GenerateStreamChunk,
    OutputLogProbs,
    SamplingParams,
    Task,
)

_TASKS: dict[Task.ValueType, base.Task] = {TASK_TEXT: "text", TASK_CALL: "call"}


def engine_request(request: GenerateRequest) -> EngineRequest:
    """What the engine is to do. Raises InvalidRequest, UnsupportedRequest."""
    if request.WhichOneof("input") == "tokenized":
        raise UnsupportedRequest("this node takes text, not token ids")
    task = _TASKS.get(request.task)
    if task is None:
        raise InvalidRequest("the request names no task; say text or call")
    sampling = request.sampling_params
    return EngineRequest(
        prompt=request.text,
        task=task,
        prefix=request.prefix,
        max_tokens=sampling.max_tokens if sampling.HasField("max_tokens") else 128,
        temperature=sampling.temperature if sampling.HasField("temperature") else 0.0,
        top_p=sampling.top_p if sampling.HasField("top_p") else 1.0,
        top_k=sampling.top_k,
        seed=sampling.seed if sampling.HasField("seed") else None,
        stop=tuple(sampling.stop),
    )


def check_supported(request: GenerateRequest, asked: EngineRequest, capabilities: Capabilities) -> None:
    """Raise UnsupportedRequest for what the engine would otherwise leave out silently."""
    if asked.task not in capabilities.tasks:
        raise UnsupportedRequest(f"the model {capabilities.model_id} does not do the task {asked.task!r}")
    if _wants_logprobs(request.sampling_params) and not capabilities.logprobs:
        raise UnsupportedRequest("the engine of this node returns no logprobs; ask without them")
    if request.sampling_params.logprobs > 0:
        raise UnsupportedRequest("only the chosen token's logprob is returned; ask for logprobs 0")


def failure(error: RequestError) -> GenerateResponse:
    """The sealed form of `error`."""
    code = GenerateError.CODE_UNIMPLEMENTED if isinstance(error, UnsupportedRequest) else GenerateError.CODE_INVALID_ARGUMENT
    return GenerateResponse(error=GenerateError(code=code, message=str(error)))


class Answer:
    """One answer as it grows: counts tokens, and keeps them only where the client wants everything at the end."""

    def __init__(self, request: GenerateRequest, model_id: str, prompt_tokens: int) -> None:
        self._stream = request.stream
        self._logprobs = _wants_logprobs(request.sampling_params)
        self._model_id = model_id
        self._prompt_tokens = prompt_tokens
        self._made = 0
        self._kept: list[EngineToken] = []
        self._finish_reason: FinishReason = "length"

    def add(self, token: EngineToken) -> None:
        """Take the next token."""
        self._made += 1
        self._finish_reason = token.finish_reason or self._finish_reason
        if not self._stream:
            self._kept.append(token)

    def chunk(self, token: EngineToken) -> GenerateResponse:
        """`token` as a chunk of a stream."""
        logprobs = self._logprobs_of([token])
        return GenerateResponse(chunk=GenerateStreamChunk(token_ids=[token.id], text=token.text, output_logprobs=logprobs))

    def complete(self) -> GenerateResponse:
        """What ends the answer."""
        return GenerateResponse(
            complete=GenerateComplete(
                finish_reason=self._finish_reason,
                prompt_tokens=self._prompt_tokens,
                completion_tokens=self._made,
                model_id=self._model_id,
                output_ids=[token.id for token in self._kept],
                text="".join(token.text for token in self._kept),
                output_logprobs=self._logprobs_of(self._kept),
            )
        )

    def _logprobs_of(self, tokens: list[EngineToken]) -> OutputLogProbs | None:
        return OutputLogProbs(token_logprobs=[token.logprob for token in tokens]) if self._logprobs and tokens else None


def _wants_logprobs(sampling: SamplingParams) -> bool:
    return sampling.HasField("logprobs")
