"""The local model: prompt in, a stream of tokens with their evidence out.

The arithmetic of a step is one native call in leanto_kernels; this file holds the order of things around it: encode, prefill,
step, decode, stop. Knows nothing of clouds, policies or devices.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from leanto_edge.adapted import adapted, extended_schema
from leanto_edge.adapter import Adapter, NewCalls, read_adapter
from leanto_edge.artifact import Artifact, read_artifact
from leanto_edge.artifact.architecture import ModelShape
from leanto_edge.artifact.manifest import TOKENIZER, TOKENIZER_CONFIG, read_json, read_small
from leanto_edge.calls import CallConstraint, CallForm, CallSchema, normalise
from leanto_edge.drafts import NgramDraft
from leanto_edge.errors import AdapterError, ArtifactError, PromptError
from leanto_edge.generation import Completion, FinishReason, GenerationRequest, Task, Token
from leanto_edge.session import Memory, Session
from leanto_edge.tokenizer import StopMatcher, StreamDecoder, Tokenizer, begins_with_bos
from leanto_kernels import Cache, Model

if TYPE_CHECKING:
    from leanto_kernels._native import Sample

KeyValues = Literal["float32", "float16", "int8"]
SMALL_MODEL = 20_000_000  # parameters under which a second thread costs more than it gives


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What a caller may want to know of a loaded model. `confidence` is the calibration that came with it, per task;
    `certificates` what was promised of its answers, as it stands in the manifest: whoever uses them verifies them.

    `fit`: compression did not break it (docs/format.md); the confidence of a model that is not means nothing.
    `adapter`: SHA-256 (hex) of the adapter in it, if any; `build_hash` is then of the two together, and no calibration is the base's.
    """

    name: str
    build_hash: str
    architecture: str
    parameters: int
    stored_bytes: int
    bits_per_weight: float
    context_length: int
    vocab_size: int
    tasks: tuple[Task, ...]
    confidence: Mapping[str, Any]
    fit: bool = True
    adapter: str | None = None
    certificates: tuple[Mapping[str, Any], ...] = ()


class Engine:
    """A loaded model. Thread-safe: any number of generations may run at once, each with its own cache.

    A forked child may go on with it, and with any generation that no thread of the parent was in the middle of. An interrupt (a signal's
    handler that raises) ends a generation at its next token, or once its prompt is read, and leaves the engine as it was.
    """

    def __init__(
        self, artifact: Artifact, *, threads: int | None = None, adapter: Adapter | None = None, kv_cache: KeyValues = "float16"
    ) -> None:
        if adapter is not None:
            artifact = adapted(artifact, adapter)
        self.shape = ModelShape.from_config(artifact.path, artifact.config)
        settings = read_json(artifact.path / TOKENIZER_CONFIG) if artifact.has(TOKENIZER_CONFIG) else {}
        self.tokenizer = Tokenizer(artifact.path / TOKENIZER, self.shape.bos_id if begins_with_bos(settings) else None)
        if self.tokenizer.vocab_size > self.shape.vocab_size:
            raise ArtifactError(artifact.path, "the tokenizer has more pieces than the model; they do not belong together")
        try:
            self.model = Model(self.shape.kernel_config(), dict(artifact.matrices), dict(artifact.tensors))
        except ValueError as error:
            raise ArtifactError(artifact.path, f"{error}; fetch the artifact again") from None
        self._path = artifact.path
        self._kv_cache = kv_cache
        self._form = self._call_form(artifact, adapter)
        self.info = self._describe(artifact, adapter)
        self._threads = threads or (1 if self.info.parameters < SMALL_MODEL else available_cpus())

    def generate(self, request: GenerationRequest, memory: Memory | None = None) -> Iterator[Token]:
        """Tokens as they are made, at most to the end of the context; closing the iterator stops the work.

        Raises PromptError before the first token. `memory` is a session's: see `session`.
        """
        if request.task == "call":
            return self._call(request, memory)
        return self._text(request, memory)

    def complete(self, request: GenerationRequest, memory: Memory | None = None) -> Completion:
        """The same, collected."""
        tokens = tuple(self.generate(request, memory))
        return Completion("".join(token.text for token in tokens), tokens, tokens[-1].finish_reason or "length")

    def read(self, request: GenerationRequest, memory: Memory) -> NDArray[np.float32]:
        """Read the prompt into `memory` and return the hidden state (hidden_size,) float32 behind its last token, after the final norm:
        what the model knows before it says anything. Raises PromptError.
        """
        ids = self._prompt(request)
        budget = self._check_length(len(ids), request.sampling.max_tokens)
        cache = self._take_cache(memory, ids, budget)
        try:
            with self._native_errors():
                self.model.prefill(cache, np.array(ids[cache.length :], np.int32), self._threads)
                return cache.state()
        finally:
            memory.keep(ids, cache)

    def session(self) -> Session:
        """A conversation: what it has read is not read again where the next prompt begins with it."""
        return Session(self)

    def logits(self, ids: Sequence[int]) -> NDArray[np.float32]:
        """Logits (n, vocab) float32 after each of `ids` (n,), BOS included by the caller. Raises PromptError."""
        self._check_length(len(ids), 0)
        if not 0 <= min(ids) <= max(ids) < self.info.vocab_size:
            raise PromptError(f"an id is outside the vocabulary of {self.info.vocab_size}; give ids that the tokenizer made")
        return self.model.logits(self.model.new_cache(len(ids), self._kv_cache), np.asarray(ids, np.int32), self._threads)

    def _prompt(self, request: GenerationRequest) -> list[int]:
        """What the model reads before it answers, checked."""
        if request.task == "text":
            self._check_text(request.prompt)
            self._check_text(request.prompt + request.prefix)  # the prefix may be what does not fit
            return self.tokenizer.encode(request.prompt + request.prefix)
        if self._form is None:
            raise PromptError(f"the model {self.info.name} has no call schema; use task 'text'")
        self._check_text(normalise(request.prompt))
        with self.tokenizer.guarded():
            return list(self._form.prompt(request.prompt))

    def _text(self, request: GenerationRequest, memory: Memory | None) -> Iterator[Token]:
        ids = self._prompt(request)
        decoder = StreamDecoder(self.tokenizer, ids)
        matcher = StopMatcher(request.sampling.stop)
        budget = self._check_length(len(ids), request.sampling.max_tokens)

        def stream() -> Iterator[Token]:
            for made, (token, logprob, margin, entropy, top) in enumerate(self._steps(ids, request, budget, memory), start=1):
                ended = token in self.shape.eos_ids
                text = matcher.push("" if ended else decoder.push(token))
                reason: FinishReason | None = "stop" if ended or matcher.stopped else "length" if made == budget else None
                if reason is not None:
                    text += matcher.push(decoder.flush()) + matcher.flush()
                yield Token(token, text, logprob, margin, entropy, reason, tuple(top))
                if reason is not None:
                    return

        return stream()

    def _call(self, request: GenerationRequest, memory: Memory | None) -> Iterator[Token]:
        ids, form = self._prompt(request), self._form
        assert form is not None  # or there would be no prompt
        with self.tokenizer.guarded():
            constraint = form.constraint(request.prompt)
        budget = self._check_length(len(ids), request.sampling.max_tokens)

        def stream() -> Iterator[Token]:
            made: list[int] = []
            for token, logprob, margin, entropy, top in self._steps(ids, request, budget, memory, constraint):
                made.append(token)
                with self.tokenizer.guarded():
                    text = form.decode(made).to_json() if constraint.done else ""
                reason: FinishReason | None = "stop" if constraint.done else "length" if len(made) == budget else None
                yield Token(token, text, logprob, margin, entropy, reason, tuple(top))
                if reason is not None:
                    return

        return stream()

    def _steps(
        self,
        ids: list[int],
        request: GenerationRequest,
        budget: int,
        memory: Memory | None,
        constraint: CallConstraint | None = None,
    ) -> Iterator[Sample]:
        """Samples without end; the caller decides when to stop, at most `budget` of them on."""
        sampling, seen = request.sampling, list(ids)
        uniform = random.Random(sampling.seed).random  # of the operating system's entropy where there is no seed
        how = (sampling.temperature, sampling.top_p, sampling.top_k)
        drafts, us = NgramDraft() if request.draft_tokens and not constraint else None, list[float]()
        cache = self._take_cache(memory, seen, budget)
        try:
            while True:
                allowed = constraint.allowed() if constraint else None
                with self._native_errors():
                    if cache.length == cache.capacity:  # from here on the model reads everything in its form for long contexts
                        cache = self._new_cache(len(seen), budget)
                    room = min(request.draft_tokens, len(ids) + budget - len(seen) - 1, cache.capacity - len(seen))
                    draft = drafts.propose(seen, room) if drafts and room > 0 else []
                    us += [uniform() for _ in range(1 + len(draft) - len(us))]
                    batch, places = np.array([*seen[cache.length :], *draft], np.int32), np.array(us[: 1 + len(draft)])
                    samples = self.model.steps(cache, batch, places, *how, allowed, self._threads, request.top_logprobs)
                del us[: len(samples)]
                for sample in samples:
                    if constraint:
                        constraint.push(sample[0])
                    seen.append(sample[0])
                    yield sample
        finally:
            if memory is not None:
                memory.keep(seen, cache)

    def _take_cache(self, memory: Memory | None, ids: list[int], budget: int) -> Cache:
        """The session's, if it has one with room for `ids` and `budget` more that reads them in the same form; else a new one."""
        if memory is None:
            return self._new_cache(len(ids), budget)
        wanted = len(ids) + budget
        same_form = [rope.original_length for rope in self.shape.ropes if rope.long_frequencies]

        def fits(cache: Cache) -> bool:
            return cache.capacity >= self._room(len(ids), budget) and all((cache.capacity > n) == (len(ids) > n) for n in same_form)

        kept = memory.take(ids, fits)
        return kept or self._new_cache(len(ids), min(2 * wanted, self.shape.context_length) - len(ids))

    def _new_cache(self, tokens: int, budget: int) -> Cache:
        with self._native_errors():
            return self.model.new_cache(self._room(tokens, budget), self._kv_cache)

    def _room(self, tokens: int, budget: int) -> int:
        """For `tokens` and `budget` more, or only for those that a model with a form for long contexts reads in its short one."""
        short = [rope.original_length for rope in self.shape.ropes if rope.long_frequencies and tokens <= rope.original_length]
        return min([tokens + budget, *short])

    @contextmanager
    def _native_errors(self) -> Iterator[None]:
        """The arguments were checked before: what a step refuses is a weight, and what it cannot get is memory."""
        try:
            yield
        except ValueError as error:
            raise ArtifactError(self._path, f"{error}; fetch the artifact again") from None
        except MemoryError:
            raise PromptError("there is not enough memory for a context of that length; ask for fewer tokens") from None

    def _check_text(self, prompt: str) -> None:
        if not prompt.strip():
            raise PromptError("the prompt is empty; say what you want")
        if not prompt.isprintable() and any("\ud800" <= char <= "\udfff" for char in prompt):
            raise PromptError("the prompt is not valid UTF-8; send text")
        if len(prompt) > self.shape.context_length * self.tokenizer.longest_piece:
            raise PromptError(f"the prompt has {len(prompt)} characters, more than the context can hold; shorten it")

    def _check_length(self, prompt_tokens: int, max_tokens: int) -> int:
        """How many tokens may follow: `max_tokens`, or what the context leaves."""
        room = self.shape.context_length - prompt_tokens
        if prompt_tokens < 1 or room < min(max_tokens, 1):
            raise PromptError(f"the prompt has {prompt_tokens} tokens, the context holds {self.shape.context_length}; shorten it")
        return min(max_tokens, room)

    @property
    def call_form(self) -> CallForm | None:
        """How the model makes calls; None if it does not."""
        return self._form

    def _call_form(self, artifact: Artifact, adapter: Adapter | None) -> CallForm | None:
        new = adapter.calls if adapter is not None else NewCalls()
        if not artifact.has("calls.json"):
            if new.intents or new.tokens:
                raise AdapterError(artifact.path, "has no call schema, but the adapter adds calls to it; adapt anew")
            return None
        path = artifact.path / "calls.json"
        try:
            schema = CallSchema.from_json(read_small(path).decode())
            with self.tokenizer.guarded():
                form = CallForm(schema, self.tokenizer.raw)
        except ValueError as error:
            raise ArtifactError(path, f"{error}; fetch the artifact again") from None
        try:
            return CallForm(extended_schema(schema, new), self.tokenizer.raw, new.tokens) if adapter is not None else form
        except ValueError as error:
            raise AdapterError(path, f"cannot be extended by the adapter: {error}; adapt anew") from None

    def _describe(self, artifact: Artifact, adapter: Adapter | None) -> ModelInfo:
        manifest = artifact.manifest
        return ModelInfo(
            name=manifest["name"],
            build_hash=artifact.build_hash,
            architecture=self.shape.architecture,
            parameters=manifest["parameters"],
            stored_bytes=manifest["stored_bytes"],
            bits_per_weight=manifest["bits_per_weight"],
            context_length=self.shape.context_length,
            vocab_size=self.shape.vocab_size,
            tasks=("text",) if self._form is None else ("call", "text"),
            confidence=manifest.get("confidence", {}),
            certificates=tuple(manifest.get("certificates", [])),
            fit=manifest.get("quality", {}).get("fit") is not False,
            adapter=adapter.sha256 if adapter is not None else None,
        )


def available_cpus() -> int:
    """CPUs that this process may use, which can be fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def load(path: str | Path, *, threads: int | None = None, adapter: str | Path | None = None, kv_cache: KeyValues = "float16") -> Engine:
    """Map the artifact (or plain Hugging Face folder) at `path`, with the adapter in the file `adapter` if one is given.

    `threads` None chooses by the model's size. `kv_cache` is what keys and values of the context are kept as: int8 takes half the memory
    of float16, with a scale for each vector. Raises ArtifactError, UnsupportedModelError, AdapterError.
    """
    artifact = read_artifact(Path(path))
    found = None if adapter is None else read_adapter(adapter, artifact)
    return Engine(artifact, threads=threads, adapter=found, kv_cache=kv_cache)
