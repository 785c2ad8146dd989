"""Readable text out of token ids, one token at a time, up to the first stop text. Knows nothing of any tokenizer or model."""

from __future__ import annotations

from collections.abc import Callable, Sequence

UNFINISHED = "\ufffd"  # how a decoder shows a character whose bytes are not all there
CONTEXT = 8  # tokens of the prompt decoded along, since a piece may read differently at the start


class TextStream:
    """What each new token makes readable. Text that may become a stop text is held back; `stopped` says that one was met."""

    def __init__(self, decode: Callable[[list[int]], str], prompt: Sequence[int], stop: tuple[str, ...]) -> None:
        self._decode = decode
        self._ids = list(prompt[-CONTEXT:])
        self._shown = decode(self._ids)
        self._stop = stop
        self._held = ""
        self.stopped = False

    def push(self, token: int) -> str:
        """The text that may be shown now, perhaps nothing."""
        self._ids.append(token)
        text = self._decode(self._ids)
        if text.endswith(UNFINISHED):
            return ""
        fresh = text[len(self._shown) :]
        self._ids, self._shown = self._ids[-CONTEXT:], self._decode(self._ids[-CONTEXT:])
        return self._hold(fresh)

    def flush(self) -> str:
        """What was held back, once no more can come. Nothing after a stop text."""
        held, self._held = self._held, ""
        return "" if self.stopped else held

    def _hold(self, fresh: str) -> str:
        text = self._held + fresh
        ends = [at for at in (text.find(stop) for stop in self._stop) if at >= 0]
        if ends:
            self.stopped, self._held = True, ""
            return text[: min(ends)]
        keep = max((length for stop in self._stop for length in range(1, len(stop)) if text.endswith(stop[:length])), default=0)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]
