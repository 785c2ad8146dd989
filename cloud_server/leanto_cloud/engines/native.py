"""The native engine: a leanto artifact (or a plain Hugging Face Llama folder) through leanto_edge. No torch.

The only module of the node that imports the edge.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import closing
from pathlib import Path

import leanto_edge
from leanto_cloud.engines.base import Capabilities, EngineRequest, EngineToken, Load
from leanto_cloud.engines.caches import forget_words
from leanto_cloud.engines.threads import Emitter, Threads
from leanto_cloud.errors import ConfigurationError, InvalidRequest, UnsupportedRequest
from leanto_edge import EdgeError, GenerationRequest, PromptError, SamplingParams


class NativeEngine:
    """Generates with leanto_edge in threads of its own, `capacity` at once."""

    def __init__(self, edge: leanto_edge.Engine, *, capacity: int) -> None:
        info = edge.info
        self.capabilities = Capabilities(f"{info.name}@{info.build_hash}", frozenset(info.tasks), True, info.context_length)
        self._edge = edge
        self._threads = Threads(capacity)
        forget_words(edge.tokenizer.raw)

    @classmethod
    def load_model(cls, path: Path | None, *, capacity: int) -> NativeEngine:
        """The engine over the model at `path`; None is the embedded pocket-large. Raises ConfigurationError."""
        try:
            return cls(leanto_edge.load(path or leanto_edge.embedded_large()), capacity=capacity)
        except EdgeError as error:
            raise ConfigurationError(str(error)) from None

    def prompt_tokens(self, request: EngineRequest) -> int:
        """How many tokens the prompt and prefix make."""
        return len(self._edge.tokenizer.encode(request.prompt + request.prefix))

    def generate(self, request: EngineRequest) -> AsyncGenerator[EngineToken]:
        """Tokens as they are made. Raises UnsupportedRequest, and InvalidRequest for a prompt the edge refuses."""
        if request.task not in self.capabilities.tasks:
            raise UnsupportedRequest(f"the model of this node cannot do the task {request.task!r}")

        def work(out: Emitter[EngineToken]) -> None:
            try:
                with closing(self._edge.generate(_edge_request(request))) as tokens:  # type: ignore[type-var]
                    for token in tokens:
                        out.emit(EngineToken(token.id, token.text, token.logprob, token.finish_reason))
            except PromptError as error:
                raise InvalidRequest(str(error)) from None

        return self._threads.stream(work)

    def load(self) -> Load:
        """How many generations run now."""
        return Load(self._threads.running, self._threads.capacity)

    def healthy(self) -> bool:
        """A model in memory does not fall ill."""
        return True

    def close(self) -> None:
        """Give the threads back."""
        self._threads.close()


def _edge_request(request: EngineRequest) -> GenerationRequest:
    sampling = SamplingParams(request.max_tokens, request.temperature, request.top_p, request.top_k, request.seed, request.stop)
    return GenerationRequest(request.prompt, request.task, sampling, request.prefix)
