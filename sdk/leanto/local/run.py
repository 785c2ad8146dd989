"""The local leg: one generation on the edge, run off the event loop, with the newest tokens held back and watched.

Wraps leanto_edge's errors in the SDK's. Knows nothing of policies beyond the numbers it is given, and nothing of clouds.
"""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from leanto.clock import Clock
from leanto.errors import EngineFault, LeantoError, ModelError, PromptRefused
from leanto.local.degeneration import Breakdown, Degeneration
from leanto.local.low_logprob import LowLogprob
from leanto.local.pace import FEWEST_TOKENS
from leanto.request import Ask

if TYPE_CHECKING:
    from leanto_edge import GenerationRequest, ModelInfo, Token


class Tokenizer(Protocol):
    """What the SDK needs of a tokenizer: to count."""

    def encode(self, text: str) -> list[int]:
        """Token ids."""
        ...


class EdgeModel(Protocol):
    """What the SDK needs of a local model; leanto_edge.Engine is one."""

    @property
    def info(self) -> ModelInfo:
        """What it is and can do."""
        ...

    @property
    def tokenizer(self) -> Tokenizer:
        """Its tokenizer."""
        ...

    def generate(self, request: GenerationRequest) -> Iterator[Token]:
        """Tokens as they are made; closing the iterator stops the work."""
        ...


@dataclass(frozen=True, slots=True)
class Watch:
    """How a run is held back and watched. `hold` None keeps everything back until the end. It is doubted when the mean logprob of
    `window` tokens falls below `floor`, or its low logprob (see confidence.LowLogprob) below `low_floor`; None doubts nothing.
    It is also doubted as a `call` that cannot become one, from more than `max_repeats` of the same tokens on, and when the `usual_tokens`
    of an answer, or from `hurry_at` (monotonic seconds) on all that it may have, cannot come before the deadline. Before its first token it
    is doubted when the model's probe (see leanto.probe) foresees less than `probe_floor`."""

    hold: int | None
    window: int
    floor: float | None
    low_floor: float | None = None
    call: bool = False
    max_repeats: int | None = None
    usual_tokens: float | None = None
    hurry_at: float | None = None  # None: there is no hurry
    probe_floor: float | None = None


@dataclass(frozen=True, slots=True)
class News:
    """What made a run pause: the probe has `foreseen` too little; `text` may be shown; the windowed mean logprob fell to `doubt`, or the
    low logprob to `low`; it has `broken` down; it would be through `too_late` (monotonic seconds) at its speed; it is `done`, or `late`."""

    text: str = field(default="", repr=False)
    foreseen: float | None = None
    doubt: float | None = None
    low: float | None = None
    broken: Breakdown | None = None
    too_late: float | None = None
    done: bool = False
    late: bool = False


def open_model(model: str | Path | EdgeModel | None, *, threads: int | None = None, adapter: str | Path | None = None) -> EdgeModel:
    """The model at a path, or the embedded one, with an adapter if one is given. Raises ModelError."""
    import leanto_edge

    if model is not None and not isinstance(model, str | Path):
        if adapter is not None:
            raise ModelError(f"{adapter}: an adapter goes into a model as it is loaded; give the model's path", path=str(adapter))
        return model
    path = leanto_edge.embedded() if model is None else Path(model)
    try:
        return leanto_edge.load(path, threads=threads, adapter=adapter)
    except leanto_edge.AdapterError as error:
        raise ModelError(str(error), path=str(error.path)) from error
    except leanto_edge.EdgeError as error:
        raise ModelError(str(error), path=str(path)) from error


def open_session(model: EdgeModel) -> EdgeModel:
    """A conversation with `model`, which reads nothing twice, where it can have one; else the model itself."""
    session = getattr(model, "session", None)
    return session() if session is not None else model


class LocalRun:
    """One generation. `advance` works until there is news; between two calls the edge computes nothing."""

    def __init__(self, model: EdgeModel, ask: Ask, watch: Watch, *, prefix: str, max_tokens: int, deadline: float, clock: Clock) -> None:
        self.tokens: list[Token] = []
        self.shown = 0  # tokens whose text was released
        self.done = False
        self.doubted = False  # set aside by the cascade because of its evidence
        self.judged = False  # its answer as a whole was judged
        self.too_slow = False  # for the deadline
        self.seconds = 0.0  # of its own work: what the reader takes between two steps is not in it
        self.prefix = prefix
        self.lowest: float | None = None  # worst windowed mean logprob so far
        self.low: float | None = None  # lowest low logprob so far
        self.foreseen: float | None = None  # by the probe, where the model has one
        self._low_logprob = LowLogprob()
        self._degeneration = Degeneration(call=watch.call, max_repeats=watch.max_repeats)
        self._watch = watch
        self._max_tokens = max_tokens
        self._first_s = 0.0
        self._deadline = deadline
        self._clock = clock
        self._cancelled = threading.Event()
        self._working: asyncio.Future[News] | None = None
        sampling = (max_tokens, ask.temperature, ask.top_p, ask.top_k, ask.seed, ask.stop)
        self._iterator = _generate(model, ask, prefix, sampling)
        self._look_ahead = None if prefix else partial(_foresee, model, ask, sampling)  # until it has looked

    async def advance(self) -> News:
        """The next news, computed on a worker thread. Raises PromptRefused, EngineFault."""
        self._working = asyncio.get_running_loop().run_in_executor(None, self._work)
        return await asyncio.shield(self._working)

    async def close(self) -> None:
        """Stop after the token at hand, and free the model's state."""
        self._cancelled.set()
        if self._working is not None and not self._working.done():
            await asyncio.wait([self._working])
        if self._working is not None and self._working.done():
            self._working.exception()  # seen: nobody waits for it any more
        close = getattr(self._iterator, "close", None)
        if close is not None:
            close()

    @property
    def watched(self) -> bool:
        """Whether a low window would be news."""
        return self._watch.floor is not None

    @property
    def watched_low(self) -> bool:
        """Whether a low logprob would be."""
        return self._watch.low_floor is not None

    def trust(self) -> None:
        """Doubt no more: there is nowhere else to go."""
        self._watch = Watch(self._watch.hold, self._watch.window, None)

    def flush(self) -> str:
        """Release everything held back."""
        return self._release(0)

    def _work(self) -> News:
        began, before = self._clock.monotonic(), self.seconds
        try:
            return self._step(began, before)
        finally:
            self.seconds = before + self._clock.monotonic() - began

    def _step(self, began: float, before: float) -> News:
        look_ahead, self._look_ahead = self._look_ahead, None
        if look_ahead is not None:
            self.foreseen, floor = look_ahead(), self._watch.probe_floor
            if self.foreseen is not None and floor is not None and not self.foreseen >= floor:
                return News(foreseen=self.foreseen)
        while not self._cancelled.is_set():
            now = self._clock.monotonic()
            if now >= self._deadline:
                return News(late=True)
            too_late = self._too_late(now, before + now - began)
            if too_late is not None:
                self.too_slow = True
                return News(too_late=too_late)
            token = _pull(self._iterator)
            if token is None:
                self.done = True
                return News(done=True)
            self.tokens.append(token)
            low = self._low_logprob.add(token.logprob)
            self.low = low if self.low is None else min(low, self.low)
            if token.finish_reason is not None:
                self.done = True
                return News(done=True)
            doubt = self._doubt()
            if doubt is not None:
                return News(doubt=doubt)
            if self._watch.low_floor is not None and low < self._watch.low_floor:
                return News(low=low)
            broken = self._degeneration.add(token.id, token.text)
            if broken is not None and (self._watch.call or self._watch.max_repeats is not None):
                return News(broken=broken)
            text = "" if self._watch.hold is None else self._release(self._watch.hold)
            if text:
                return News(text=text)
        return News(late=True)

    def _doubt(self) -> float | None:
        """The mean logprob of the last window if it fell below the floor."""
        window, floor = self._watch.window, self._watch.floor
        if len(self.tokens) < window:
            return None
        mean = math.fsum(token.logprob for token in self.tokens[-window:]) / window
        self.lowest = mean if self.lowest is None else min(mean, self.lowest)
        return mean if floor is not None and mean < floor else None

    def _too_late(self, now: float, worked_s: float) -> float | None:
        """When it would be through, by the speed of its tokens so far, if that is past the deadline. Before `hurry_at`, as long as it may
        end any moment, nobody can tell."""
        made, hurry_at, usual = len(self.tokens), self._watch.hurry_at, self._watch.usual_tokens
        if made == 1:
            self._first_s = worked_s
        if hurry_at is None or made < FEWEST_TOKENS:
            return None
        end: float = self._max_tokens if now >= hurry_at else 0
        if usual is not None and made < usual:
            end = min(usual, self._max_tokens)
        through_at = now + (end - made) * (worked_s - self._first_s) / (made - 1)
        return through_at if end > made and through_at > self._deadline else None

    def _release(self, hold: int) -> str:
        end = max(self.shown, len(self.tokens) - hold)
        text = "".join(token.text for token in self.tokens[self.shown : end])
        self.shown = end
        return text


def _generate(model: EdgeModel, ask: Ask, prefix: str, sampling: tuple[Any, ...]) -> Iterator[Token]:
    """The model's tokens, started only when the first is pulled, with its errors wrapped."""
    from leanto_edge import GenerationRequest, SamplingParams

    tokens: Iterator[Token] | None = None
    try:
        with _wrapped():
            tokens = model.generate(GenerationRequest(ask.prompt, ask.task, SamplingParams(*sampling), prefix))
            yield from tokens
    finally:
        close = getattr(tokens, "close", None)
        if close is not None:
            with suppress(LeantoError):
                close()


def _foresee(model: EdgeModel, ask: Ask, sampling: tuple[Any, ...]) -> float | None:
    """What the model's probe makes of the prompt, which a session then need not read again; None without a probe."""
    stored = model.info.confidence.get(ask.task, {}).get("probe") if model.info.fit else None
    read = getattr(model, "read", None)
    if stored is None or read is None:
        return None
    from leanto.probe import probe
    from leanto_edge import GenerationRequest, SamplingParams

    with _wrapped():
        state = read(GenerationRequest(ask.prompt, ask.task, SamplingParams(*sampling)))
    try:
        return probe(stored, state)
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"{model.info.name}: its probe for {ask.task!r} cannot be used ({error}); calibrate it again") from error


@contextmanager
def _wrapped() -> Iterator[None]:
    """The model's errors in the SDK's."""
    from leanto_edge import EdgeError, PromptError

    try:
        yield
    except PromptError as error:
        raise PromptRefused(str(error)) from error
    except (EdgeError, MemoryError, RuntimeError, ValueError) as error:
        raise EngineFault(f"the local model failed: {error or type(error).__name__}; run `leanto doctor`") from error


def _pull(iterator: Iterator[Token]) -> Token | None:
    """The next token, or None at the end: StopIteration may not cross an executor."""
    return next(iterator, None)


@dataclass(frozen=True, slots=True)
class Confidence:
    """How sure the edge is of a finished answer. `threshold` and `ece` (expected calibration error) are the artifact's, if it has any."""

    value: float
    calibrated: bool
    threshold: float | None
    ece: float | None = None


def assess(info: ModelInfo, task: str, tokens: list[Token]) -> Confidence:
    """The artifact's calibrated confidence for `task`, or the mean token probability, marked as uncalibrated; 0 of an unfit model."""
    from leanto import confidence  # NumPy, which a mere `import leanto` need not pay for

    model: Mapping[str, Any] | None = info.confidence.get(task)
    if not tokens or not info.fit:
        return Confidence(0.0, False, None)
    if model is None:
        return Confidence(confidence.mean_probability([token.logprob for token in tokens]), False, None)
    try:
        value = confidence.predict(model, tokens)
        ece = float(model["ece"]) if "ece" in model else None
        return Confidence(value if math.isfinite(value) else 0.0, True, float(model["threshold"]), ece)
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"{info.name}: its confidence model for {task!r} cannot be used ({error}); compress it again") from error
