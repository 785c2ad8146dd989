"""Stand-ins for the far ends: a scripted edge model, a scripted cloud leg, a clock that a test moves, a meter."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from leanto import Clock, LeantoError
from leanto.remote import RemoteChunk, RemoteRequest
from leanto.signals.energy import EnergySource
from leanto_edge import GenerationRequest, ModelInfo, Token

SURE = -0.05
UNSURE = -6.0


def tokens(text: str, logprobs: float | Sequence[float] = SURE, *, finish: str | None = "stop", margin: float = 2.0) -> list[Token]:
    """One token a word of `text`, the space before it included, with the given logprobs (the last one repeats)."""
    words = [word if i == 0 else f" {word}" for i, word in enumerate(text.split(" "))]
    scores = list(logprobs) if isinstance(logprobs, Sequence) else [logprobs]
    made = []
    for i, word in enumerate(words):
        score = scores[min(i, len(scores) - 1)]
        reason: Any = finish if i == len(words) - 1 else None
        made.append(Token(i, word, score, margin if score > -1 else -margin, -score, reason))
    return made


def call_tokens(text: str, logprob: float = SURE, n: int = 6) -> list[Token]:
    """A call is atomic: its JSON comes with the last token."""
    silent = [Token(i, "", logprob, 2.0 if logprob > -1 else -1.0, -logprob) for i in range(n - 1)]
    return [*silent, Token(n, text, logprob, 2.0 if logprob > -1 else -1.0, -logprob, "stop")]


class FakeTokenizer:
    """A token a word."""

    def encode(self, text: str) -> list[int]:
        return list(range(len(text.split())))

    def decode(self, ids: Sequence[int]) -> str:
        return " ".join(map(str, ids))


Script = Callable[[GenerationRequest], Iterable[Token | Exception]]


class FakeEdge:
    """Yields what its script says for a request, raising what is an exception in it; `open` counts unfinished generations. `work` is
    called for each token, to move a clock."""

    def __init__(
        self,
        script: Script | Sequence[Token | Exception],
        *,
        confidence: dict[str, Any] | None = None,
        work: Callable[[], None] = lambda: None,
        **info: Any,
    ) -> None:
        self._work = work
        self._script = script if callable(script) else lambda request: script
        self.tokenizer = FakeTokenizer()
        self.requests: list[GenerationRequest] = []
        self.pulled = 0
        self.open = 0
        known: dict[str, Any] = {"name": "fake", "build_hash": "edge-build", "architecture": "llama", "bits_per_weight": 2.0}
        known |= {"parameters": 1, "stored_bytes": 1, "context_length": 512, "vocab_size": 64, "tasks": ("call", "text")}
        known |= {"confidence": confidence or {}}
        self.info = ModelInfo(**(known | info))

    def generate(self, request: GenerationRequest) -> Iterator[Token]:
        self.requests.append(request)
        return self._run(list(self._script(request)))

    def _run(self, script: list[Token | Exception]) -> Iterator[Token]:
        self.open += 1
        try:
            for item in script:
                self.pulled += 1
                self._work()
                if isinstance(item, Exception):
                    raise item
                yield item
        finally:
            self.open -= 1


def chunks(text: str, *, finish: str | None = "stop", size: int = 1) -> list[RemoteChunk]:
    """`size` words of `text` a chunk, one token each."""
    words = [word if i == 0 else f" {word}" for i, word in enumerate(text.split(" "))]
    groups = [words[i : i + size] for i in range(0, len(words), size)]
    return [
        RemoteChunk("".join(group), tuple(range(len(group))), (SURE,) * len(group), finish if i == len(groups) - 1 else None)
        for i, group in enumerate(groups)
    ]


@dataclass
class FakeCall:
    """One scripted call; an exception in the script is raised in its place."""

    script: Iterator[RemoteChunk | Exception]
    bytes_sent: int = 100
    bytes_received: int = 0
    closed: bool = False

    def __aiter__(self) -> AsyncIterator[RemoteChunk]:
        return self

    async def __anext__(self) -> RemoteChunk:
        item = next(self.script, None)
        if item is None:
            raise StopAsyncIteration
        if isinstance(item, Exception):
            raise item
        self.bytes_received += 50
        return item

    async def aclose(self) -> None:
        self.closed = True


class FakeCloud:
    """Yields what its script says for a request. It records every request: none may ever hold a private prompt."""

    model_id = "fake-large"
    evidence_id = "development:00"

    def __init__(self, script: Callable[[RemoteRequest], Iterable[RemoteChunk | Exception]] | Sequence[RemoteChunk | Exception]) -> None:
        self._script = script if callable(script) else lambda request: script
        self.requests: list[RemoteRequest] = []
        self.calls: list[FakeCall] = []
        self.closed = False

    def generate(self, request: RemoteRequest) -> FakeCall:
        self.requests.append(request)
        self.calls.append(FakeCall(iter(self._script(request))))
        return self.calls[-1]

    async def close(self) -> None:
        self.closed = True


class UntouchableCloud:
    """A cloud that a test forbids: any use of it fails the test."""

    model_id = None
    evidence_id = None

    def generate(self, request: RemoteRequest) -> FakeCall:
        raise AssertionError("the cloud was called")

    async def close(self) -> None:
        raise AssertionError("the cloud was opened")


@dataclass
class FakeClock:
    """Stands still until `tick_s` a reading or `advance` moves it."""

    now: float = 1000.0
    tick_s: float = 0.0

    def read(self) -> float:
        self.now += self.tick_s
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds

    @property
    def clock(self) -> Clock:
        return Clock(self.read, self.read)


@dataclass
class FakeMeter:
    """Spends `step_j` between two readings; None cannot read."""

    step_j: float | None = 0.5
    readings: list[float] = field(default_factory=list)
    source: EnergySource = "rapl"

    def read_j(self) -> float | None:
        if self.step_j is None:
            return None
        self.readings.append(self.step_j * len(self.readings))
        return self.readings[-1]

    def since_j(self, start_j: float | None) -> float | None:
        now = self.read_j()
        return None if start_j is None or now is None else now - start_j


def fault(kind: type[LeantoError], **known: Any) -> LeantoError:
    """An error of the tree with a plain message."""
    return kind("a scripted failure", **known)
