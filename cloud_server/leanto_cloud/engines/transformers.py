"""The transformers engine: any Hugging Face causal language model. The only module of the node that imports torch.

`generate` runs the model; sampling happens in one logits processor, which sees the raw logits and so knows the evidence.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncGenerator
from contextlib import suppress
from pathlib import Path
from typing import Any

from leanto_cloud.engines.base import Capabilities, EngineRequest, EngineToken, FinishReason, Load
from leanto_cloud.engines.caches import forget_words
from leanto_cloud.engines.text import TextStream
from leanto_cloud.engines.threads import Emitter, Threads
from leanto_cloud.errors import ConfigurationError, InvalidRequest, UnsupportedRequest

try:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig
    from transformers.utils import logging as transformers_logging
except ImportError:
    raise ConfigurationError("the transformers engine needs optional packages: pip install 'leanto[transformers]'") from None


class TransformersEngine:
    """Generates with `model.generate` in threads of its own, `capacity` at once."""

    def __init__(self, model: Any, tokenizer: Any, *, model_id: str, capacity: int) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._threads = Threads(capacity)
        if tokenizer.is_fast:
            forget_words(tokenizer.backend_tokenizer)
        self._eos_ids = _eos_ids(model)
        context_length = int(getattr(model.config, "max_position_embeddings", 2048))
        self.capabilities = Capabilities(model_id, frozenset({"text"}), True, context_length)

    @classmethod
    def load_model(cls, path: Path, *, capacity: int) -> TransformersEngine:
        """The engine over the folder at `path`, from local files alone, without running code from it. Raises ConfigurationError."""
        if not (path / "config.json").is_file():
            raise ConfigurationError(f"{path}: no config.json; give a Hugging Face model folder")
        transformers_logging.disable_progress_bar()
        try:
            model = AutoModelForCausalLM.from_pretrained(path, local_files_only=True, trust_remote_code=False, use_safetensors=True).eval()
            tokenizer = AutoTokenizer.from_pretrained(path, local_files_only=True, trust_remote_code=False)
        except (OSError, ValueError, KeyError) as error:
            raise ConfigurationError(f"{path}: transformers cannot load it ({type(error).__name__}); check the folder") from None
        return cls(model, tokenizer, model_id=f"{path.resolve().name}@{folder_hash(path)}", capacity=capacity)

    def prompt_tokens(self, request: EngineRequest) -> int:
        """How many tokens the prompt and prefix make. Raises InvalidRequest where nothing could follow them."""
        count = len(self._encode(request))
        if not 0 < count < self.capabilities.context_length:
            raise InvalidRequest(f"the prompt has {count} tokens, the context holds {self.capabilities.context_length}; shorten it")
        return count

    def generate(self, request: EngineRequest) -> AsyncGenerator[EngineToken]:
        """Tokens as they are made. Raises UnsupportedRequest for a task other than text."""
        if request.task != "text":
            raise UnsupportedRequest(f"the transformers engine does not do the task {request.task!r}")

        def work(out: Emitter[EngineToken]) -> None:
            with suppress(_Stopped):
                self._run(request, out)

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

    def _encode(self, request: EngineRequest) -> list[int]:
        ids: list[int] = self._tokenizer(request.prompt + request.prefix)["input_ids"]
        return ids

    def _run(self, request: EngineRequest, out: Emitter[EngineToken]) -> None:
        prompt = self._encode(request)
        budget = min(request.max_tokens, self.capabilities.context_length - len(prompt))
        ids = torch.tensor([prompt], device=self._model.device)
        config = GenerationConfig(max_new_tokens=budget, do_sample=False, repetition_penalty=1.0, pad_token_id=0)
        chooser = _Chooser(request)
        text = TextStream(lambda made: self._tokenizer.decode(made, skip_special_tokens=True), prompt, request.stop)
        streamer = _Streamer(out, chooser, text, self._eos_ids, budget)
        with torch.inference_mode():
            self._model.generate(
                input_ids=ids, attention_mask=torch.ones_like(ids), generation_config=config, logits_processor=[chooser], streamer=streamer
            )


class _Stopped(Exception):
    """Raised inside `generate` to end it after the last token."""


class _Chooser:
    """A logits processor that chooses the token itself and leaves no other possible."""

    def __init__(self, request: EngineRequest) -> None:
        self._request = request
        self._random = torch.Generator()
        self._random.manual_seed(request.seed) if request.seed is not None else self._random.seed()
        self.logprob = 0.0

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        """Scores (1, vocab) in; minus infinity everywhere but at the chosen token out."""
        logits = scores[0].float().cpu()
        chosen = int(self._choose(logits))
        self.logprob = float(torch.log_softmax(logits, -1)[chosen])
        only = torch.full_like(scores, float("-inf"))
        only[0, chosen] = 0.0
        return only

    def _choose(self, logits: Any) -> Any:
        if self._request.temperature == 0.0:
            return logits.argmax()
        ordered, order = torch.softmax(logits / self._request.temperature, -1).sort(descending=True, stable=True)
        if self._request.top_k:
            ordered[self._request.top_k :] = 0.0
        ordered[ordered.cumsum(-1) - ordered >= self._request.top_p] = 0.0  # the first to reach top_p stays
        return order[torch.multinomial(ordered, 1, generator=self._random)[0]]


class _Streamer:
    """What `generate` hands each token to. Emitting raises when the reader has gone, which ends `generate`."""

    def __init__(self, out: Emitter[EngineToken], chooser: _Chooser, text: TextStream, eos_ids: frozenset[int], budget: int) -> None:
        self._out = out
        self._chooser = chooser
        self._text = text
        self._eos_ids = eos_ids
        self._left = budget
        self._seen_prompt = False

    def put(self, value: Any) -> None:
        """The prompt first, then one token at a time."""
        if not self._seen_prompt:
            self._seen_prompt = True
            return
        token = int(value.reshape(-1)[0])
        self._left -= 1
        ended = token in self._eos_ids
        text = "" if ended else self._text.push(token)
        reason: FinishReason | None = "stop" if ended or self._text.stopped else "length" if self._left == 0 else None
        if reason is not None:
            text += self._text.flush()
        self._out.emit(EngineToken(token, text, self._chooser.logprob, reason))
        if reason is not None:
            raise _Stopped

    def end(self) -> None:
        """Nothing is held back here."""


def folder_hash(path: Path) -> str:
    """The build hash of a model folder: SHA-256 over the canonical JSON of {file: sha256}."""
    files = {file.name: _sha256(file) for file in sorted(path.iterdir()) if file.is_file()}
    return hashlib.sha256(json.dumps(files, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _eos_ids(model: Any) -> frozenset[int]:
    wanted = model.generation_config.eos_token_id
    if wanted is None:
        return frozenset()
    return frozenset([wanted] if isinstance(wanted, int) else wanted)
